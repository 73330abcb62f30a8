# SPDX-License-Identifier: ISC
#
# dbd_pg.pl - an application of DBI and DBD::Pg; prints what it sees.
#
# Connects as the PG* environment says.
use strict;
use warnings;
use utf8;
use DBD::Pg qw(:pg_types :async);
use DBI;
use IO::Select;

binmode STDOUT, ':utf8';
binmode STDERR, ':utf8';
$| = 1;

my $schema = 'drv_dbd_pg';

sub text {
    my ($value) = @_;
    return 'NULL' unless defined $value;
    return '[' . join(', ', map { text($_) } @$value) . ']' if ref $value eq 'ARRAY';
    return '{' . join(', ', map { "$_ => " . text($value->{$_}) } sort keys %$value) . '}'
        if ref $value eq 'HASH';
    return "'$value'";
}

sub show {
    my ($label, @values) = @_;
    print "$label: ", join(' ', map { text($_) } @values), "\n";
}

# Show what is returned, or the error.
sub attempt {
    my ($label, $dbh, $act) = @_;
    my $value = eval { $act->() };
    return show($label, $value) unless $@;
    show($label, $dbh->state, $dbh->errstr =~ /^(.*)$/m);
}

sub connected {
    my $dbh = DBI->connect('dbi:Pg:', '', '',
        { RaiseError => 1, PrintError => 0, AutoCommit => 1, pg_enable_utf8 => 1, @_ });
    $dbh->do("SET search_path = $schema");
    return $dbh;
}

my ($one, $two) = (connected(), connected());
$one->do('SET client_min_messages = warning');
$one->do("DROP SCHEMA IF EXISTS $schema CASCADE");
$one->do('RESET client_min_messages');
$one->do("CREATE SCHEMA $schema");
$one->do('CREATE TABLE t (id int PRIMARY KEY, note text)');

print "# statements, prepared by the server from their second use on\n";
my $add = $one->prepare('SELECT ?::int + 1');
my $cry = $two->prepare(q{SELECT ?::text || '!'});
for my $n (1 .. 8) {
    show($n, map { $_->execute($n); $_->fetchrow_arrayref } $add, $cry);
}
my $insert = $one->prepare_cached('INSERT INTO t VALUES (?, ?)');
$insert->execute($_, "note $_") for 1 .. 20;
my $dollar = $two->prepare('SELECT note FROM t WHERE id BETWEEN $1 AND $2 ORDER BY id', { pg_prepare_now => 1 });
show('many', $two->selectall_arrayref($dollar, {}, 2, 4));
show('described', $dollar->{NAME}, [ map { $two->type_info($_)->{TYPE_NAME} } @{ $dollar->{TYPE} } ],
    $dollar->{NUM_OF_PARAMS});
$dollar->finish;
undef $dollar;
my @status;
show('an array of rows', $insert->execute_array({ ArrayTupleStatus => \@status }, [ 21 .. 24 ], [ qw(a b c d) ]));
$one->{pg_server_prepare} = 0;
show('never prepared', map { $one->selectrow_arrayref('SELECT ?::int', {}, $_) } 1 .. 3);
$one->{pg_server_prepare} = 1;
{
    local $one->{pg_switch_prepared} = 1;
    show('at once', map { $one->selectrow_arrayref('SELECT ?::int * 2', {}, $_) } 1 .. 3);
}

print "# types\n";
my $types = $one->prepare('SELECT ?::int8, ?::numeric, ?, ?::text, ?::int[], ?::jsonb, ?::bool, ?::timestamptz AT TIME ZONE \'UTC\'');
$types->bind_param(3, "\0\xff\x10", { pg_type => PG_BYTEA });
my @values = (-7, '123456789012.000100', undef, [ 1, undef, 3 ], '{"k": [1, "ü"]}', 1, '2024-02-29 12:34:56.789+00');
$types->bind_param($_ < 3 ? $_ : $_ + 1, $values[ $_ - 1 ]) for 1 .. @values;
for (1 .. 3) {
    $types->execute;
    my @row = $types->fetchrow_array;
    $row[2] = unpack('H*', $row[2]);
    show('row', @row);
}
show('by name', $one->selectrow_hashref('SELECT 1 AS one, NULL AS nothing, ARRAY[ARRAY[1,2],ARRAY[3,4]] AS a'));
show('quoted', $one->quote("it's \\ a \"text\""), $one->quote_identifier('Mixed "Case"'));
show('tables', [ $one->tables('', $schema, '%', 'TABLE') ], [ map { $_->[3] } @{ $one->column_info('', $schema, 't', '%')->fetchall_arrayref } ]);

print "# transactions\n";
$one->begin_work;
$one->do(q{UPDATE t SET note = 'mine' WHERE id = 1});
show('before the commit', $two->selectrow_array('SELECT note FROM t WHERE id = 1'));
$one->pg_savepoint('s');
attempt('duplicate', $one, sub { $insert->execute(1, 'again') });
attempt('then', $one, sub { $one->selectrow_array('SELECT 1') });
$one->pg_rollback_to('s');
show('status', $one->ping, $one->selectrow_array('SELECT count(*) FROM t'));
$one->commit;
show('after it', $two->selectrow_array('SELECT note FROM t WHERE id = 1'));
{
    local $one->{AutoCommit} = 0;
    $one->do('DELETE FROM t');
    attempt('division', $one, sub { $one->do('SELECT 1/0') });
    show('ping', $one->ping);
    $one->rollback;
    show('count', $one->selectrow_array('SELECT count(*) FROM t'));
    $one->rollback;
}
show('ping', $one->ping);

print "# cursors\n";
$two->begin_work;
$two->do('DECLARE c SCROLL CURSOR FOR SELECT g FROM generate_series(1, ?::int) g', {}, 100);
show('fetched', $two->selectcol_arrayref('FETCH 3 FROM c'), $two->do('MOVE 50 IN c'),
    $two->selectcol_arrayref('FETCH BACKWARD 2 FROM c'));
$two->commit;

print "# COPY\n";
$one->do('COPY t FROM STDIN');
$one->pg_putcopydata("$_\tcopied ü\n") for 2000 .. 4999;
show('in', $one->pg_putcopyend);
$one->do('COPY (SELECT * FROM t WHERE id >= 4998 ORDER BY id) TO STDOUT');
my $line;
show('out', $line =~ s/\n$//r) while $one->pg_getcopydata($line) >= 0;
$one->do('COPY t FROM STDIN');
$one->pg_putcopydata("1\tagain\n");
attempt('duplicate', $one, sub { $one->pg_putcopyend });
show('count', $one->selectrow_array('SELECT count(*) FROM t WHERE id >= 2000'));

print "# LISTEN and NOTIFY\n";
$two->do("LISTEN $schema");
$one->begin_work;
$one->do('SELECT pg_notify(?, ?)', {}, $schema, "number $_") for 1 .. 3;
$one->commit;
my $readable = IO::Select->new($two->{pg_socket});
for (1 .. 3) {
    my $heard;
    1 until $heard = $two->pg_notifies or !$readable->can_read(20);
    show('heard', $heard->[0], $heard->[2], $heard->[1] == $one->{pg_pid});
}
$two->do('UNLISTEN *');

print "# sessions\n";
$one->do(q{SET TimeZone = 'Asia/Tokyo'});
$two->do(q{SET TimeZone = 'America/Lima'});
for (1 .. 3) {
    show('time zones', map { $_->selectrow_array(q{SELECT '2024-02-29 12:00+00'::timestamptz, current_setting('TimeZone')}) } $one, $two);
}
{
    local $SIG{__WARN__} = sub { show('warning', $_[0] =~ /^(.*)$/m) };
    $one->do(q{DO $$ BEGIN RAISE NOTICE 'noticed'; END $$});
}
$one->do('CREATE TEMP TABLE own AS SELECT 1 AS n');
attempt('temporary', $one, sub { $one->selectrow_array('SELECT * FROM own') });
attempt('of the other', $two, sub { $two->selectrow_array('SELECT * FROM own') });
$one->do('DROP TABLE own');
$one->do('CREATE TABLE numbered (id serial PRIMARY KEY, note text)');
$one->do(q{INSERT INTO numbered (note) VALUES ('x')}) for 1 .. 3;
show('last id', $one->last_insert_id(undef, $schema, 'numbered', undef));

print "# cancels and timeouts\n";
$two->do('SELECT pg_sleep(60)', { pg_async => PG_ASYNC });
my $asleep = q{SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'};
1 until $one->selectrow_array($asleep);
show('cancelled', $two->pg_cancel);
$two->do(q{SELECT 'while waiting'}, { pg_async => PG_ASYNC });
show('result', $two->pg_result);
$two->do(q{SET statement_timeout = '50ms'});
attempt('timed out', $two, sub { $two->do('SELECT pg_sleep(60)') });
$two->do('RESET statement_timeout');

print "# large objects\n";
$one->begin_work;
my $object = $one->pg_lo_creat($one->{pg_INV_WRITE} | $one->{pg_INV_READ});
my $fd = $one->pg_lo_open($object, $one->{pg_INV_WRITE} | $one->{pg_INV_READ});
show('written', $one->pg_lo_write($fd, 'a large object', 14), $one->pg_lo_lseek($fd, 2, 0));
my $buffer = '';
show('read', $one->pg_lo_read($fd, $buffer, 100), $buffer, $one->pg_lo_unlink($object));
$one->commit;

$_->finish for $add, $cry, $types;
undef $_ for $insert, $add, $cry, $types;
$one->do('SET client_min_messages = warning');
$one->do("DROP SCHEMA $schema CASCADE");
$_->disconnect for $one, $two;
