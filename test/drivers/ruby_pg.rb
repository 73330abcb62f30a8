# SPDX-License-Identifier: ISC
#
# ruby_pg.rb - an application of ruby-pg; prints what it sees.
#
# Connects as the PG* environment says.
require 'bigdecimal'
require 'pg'

SCHEMA = 'drv_ruby_pg'
$stdout.sync = true

def show(label, *values)
  puts "#{label}: #{values.map(&:inspect).join(' ')}"
end

# Show what the block returns, or the error that it raises.
def attempt(label)
  show(label, yield)
rescue PG::Error => e
  show(label, e.class, e.result&.error_field(PG::PG_DIAG_SQLSTATE), e.message.lines.first.chomp)
end

def connected
  PG.connect(options: "-c search_path=#{SCHEMA}").tap do |connection|
    connection.type_map_for_results = PG::BasicTypeMapForResults.new(connection)
    connection.type_map_for_queries = PG::BasicTypeMapForQueries.new(connection)
  end
end

def statements(one, two)
  puts '# prepared statements'
  one.prepare('mine', 'SELECT $1::int + 1 AS n')
  two.prepare('mine', "SELECT $1::text || '!' AS t")
  8.times { |n| show(n, one.exec_prepared('mine', [n]).values, two.exec_prepared('mine', [n.to_s]).values) }
  described = one.describe_prepared('mine')
  show('described', described.fields, described.nparams, described.paramtype(0))
  attempt('twice') { one.prepare('mine', 'SELECT 2') }
  attempt('unknown') { one.exec_prepared('nobody') }
  one.exec('DEALLOCATE mine')
  attempt('deallocated') { one.exec_prepared('mine', [1]) }
  one.prepare('mine', "SELECT 'anew' AS t")
  show('anew', one.exec_prepared('mine').to_a)
end

def types(connection)
  puts '# types'
  show('row', *connection.exec_params(
    'SELECT $1::int8 AS i, $2::numeric AS n, $3::text AS nothing, $4::int[] AS a, $5::bool AS yes,' \
    " $6::date AS d, '{\"k\": [1, \"ü\"]}'::jsonb AS j, 1.5e-10::float8 AS f",
    [-7, BigDecimal('123456789012.0001'), nil, [1, nil, 3], true, Date.new(2024, 2, 29)]).first)
  binary = connection.exec_params('SELECT $1::bytea AS b, 7::int4 AS i',
                                  [PG::BasicTypeMapForQueries::BinaryData.new("\0\xff\x10".b)], 1)
  show('binary', binary.getvalue(0, 0), binary.getvalue(0, 1), binary.fformat(0))
  show('several', connection.exec("SELECT 1 AS one; SELECT 2 AS two").to_a, connection.exec('').result_status)
end

def transactions(one, two)
  puts '# transactions'
  one.transaction do
    one.exec("INSERT INTO t VALUES (1, 'mine')")
    show('before the commit', two.exec('SELECT count(*) FROM t').values)
    one.exec('SAVEPOINT s')
    attempt('duplicate') { one.exec("INSERT INTO t VALUES (1, 'again')") }
    attempt('then') { one.exec('SELECT 1') }
    one.exec('ROLLBACK TO s')
    show('status', one.transaction_status == PG::PQTRANS_INTRANS)
  end
  show('after it', two.exec('SELECT * FROM t').to_a)
  begin
    one.transaction do
      one.exec('DELETE FROM t')
      raise 'changed my mind'
    end
  rescue RuntimeError => e
    show(e.message, one.exec('SELECT count(*) FROM t').getvalue(0, 0))
  end
end

def pipeline(connection)
  puts '# pipeline'
  connection.enter_pipeline_mode
  connection.send_prepare('piped', 'SELECT $1::int * 2 AS n')
  3.times { |n| connection.send_query_prepared('piped', [n]) }
  connection.send_query_params('SELECT 1/$1::int', [0])
  connection.send_query_params("INSERT INTO t VALUES (50, 'never')", [])
  connection.pipeline_sync
  connection.send_query_params("INSERT INTO t VALUES (51, 'piped') RETURNING id", [])
  connection.pipeline_sync
  syncs = 0
  while syncs < 2
    result = connection.get_result or next
    syncs += 1 if result.result_status == PG::PGRES_PIPELINE_SYNC
    show(result.res_status(result.result_status), result.ntuples.zero? ? result.cmd_status : result.values,
         result.error_field(PG::PG_DIAG_SQLSTATE))
  end
  connection.exit_pipeline_mode
  show('count', connection.exec('SELECT id FROM t ORDER BY id').column_values(0))
end

def rows(connection)
  puts '# single rows, cursors'
  connection.send_query('SELECT generate_series(1, 1000) AS g')
  connection.set_single_row_mode
  show('streamed', connection.get_result.stream_each_row.sum(&:first))
  connection.get_result
  connection.transaction do
    connection.exec('DECLARE c CURSOR FOR SELECT generate_series(1, 100) AS g')
    show('described', connection.describe_portal('c').fields)
    show('fetched', connection.exec('FETCH 3 FROM c').values, connection.exec('FETCH 3 FROM c').values)
  end
end

def copy(connection)
  puts '# COPY'
  encoder = PG::TextEncoder::CopyRow.new
  into = connection.copy_data('COPY t FROM STDIN', encoder) do
    (2000..4999).each { |n| connection.put_copy_data([n, "copied\t#{n}"]) }
  end
  show('in', into.cmd_status)
  connection.copy_data('COPY (SELECT * FROM t WHERE id >= 4998 ORDER BY id) TO STDOUT', PG::TextDecoder::CopyRow.new) do
    while (row = connection.get_copy_data)
      show('out', row)
    end
  end
  attempt('duplicate') { connection.copy_data('COPY t FROM STDIN', encoder) { connection.put_copy_data([1, 'again']) } }
  begin
    connection.copy_data('COPY t FROM STDIN') do
      connection.put_copy_data("9000\tnever\n")
      raise 'changed my mind'
    end
  rescue RuntimeError => e
    show(e.message, connection.exec('SELECT count(*) FROM t WHERE id >= 2000').getvalue(0, 0))
  end
end

def notifications(listener, speaker)
  puts '# LISTEN and NOTIFY'
  listener.exec("LISTEN #{SCHEMA}")
  speaker.transaction { 3.times { |n| speaker.exec_params('SELECT pg_notify($1, $2)', [SCHEMA, "number #{n}"]) } }
  3.times do
    listener.wait_for_notify(20) { |channel, pid, payload| show('heard', channel, payload, pid == speaker.backend_pid) }
  end
  listener.exec('UNLISTEN *')
end

def sessions(one, two)
  puts '# sessions'
  one.exec("SET TimeZone = 'Asia/Tokyo'")
  two.exec("SELECT set_config('TimeZone', 'America/Lima', false)")
  3.times do
    show('time zones', *[one, two].flat_map { |c| [c.parameter_status('TimeZone'), *c.exec("SELECT '2024-02-29 12:00+00'::timestamptz::text").values] })
  end
  one.set_client_encoding('LATIN1')
  show('encoding', one.get_client_encoding, one.exec("SELECT 'ü' AS u".encode('ISO-8859-1')).getvalue(0, 0).encoding)
  one.set_client_encoding('UTF8')
  one.set_notice_receiver { |result| show('notice', result.error_field(PG::PG_DIAG_MESSAGE_PRIMARY)) }
  one.exec("DO $$ BEGIN RAISE NOTICE 'noticed'; END $$")
  one.exec('DISCARD ALL')
  show('discarded', one.exec('SHOW TimeZone').values, one.exec('SHOW search_path').values)
  one.reset
  show('reset', one.exec('SHOW search_path').values)
end

def cancels(connection, watcher)
  puts '# cancels and timeouts'
  connection.send_query('SELECT pg_sleep(60)')
  asleep = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"
  nil until watcher.exec(asleep).getvalue(0, 0).positive?
  show('asked', connection.cancel)
  attempt('cancelled') { connection.get_last_result }
  connection.exec("SET statement_timeout = '50ms'")
  attempt('timed out') { connection.exec('SELECT pg_sleep(60)') }
  connection.exec('RESET statement_timeout')
end

def threads
  puts '# threads, each on its own connection'
  totals = Array.new(6) do |n|
    Thread.new do
      connection = connected
      connection.prepare('add', 'SELECT $1::int + $2::int')
      total = Array.new(20) { |turn| connection.transaction { connection.exec_prepared('add', [n, turn]).getvalue(0, 0) } }.sum
      connection.finish
      total
    end
  end
  show('totals', totals.map(&:value))
end

one = connected
two = connected
one.exec('SET client_min_messages = warning')
one.exec("DROP SCHEMA IF EXISTS #{SCHEMA} CASCADE")
one.exec('RESET client_min_messages')
one.exec("CREATE SCHEMA #{SCHEMA}; CREATE TABLE t (id int PRIMARY KEY, note text)")
statements(one, two)
types(one)
transactions(one, two)
pipeline(one)
rows(two)
copy(one)
notifications(one, two)
sessions(one, two)
cancels(two, one)
threads
one.exec("SET client_min_messages = warning; DROP SCHEMA #{SCHEMA} CASCADE")
