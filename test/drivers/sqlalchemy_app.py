# SPDX-License-Identifier: ISC
#
# sqlalchemy_app.py - an application of SQLAlchemy, Core and ORM, over psycopg 2.
"""Connects as the PG* environment says; prints what it sees."""
import datetime
import decimal
import threading

import sqlalchemy as sa
from sqlalchemy import exc, orm
from sqlalchemy.dialects import postgresql

SCHEMA = "drv_sqlalchemy"
Base = orm.declarative_base(metadata=sa.MetaData(schema=SCHEMA))


class Order(Base):
    __tablename__ = "orders"
    id = sa.Column(sa.Integer, sa.Identity(), primary_key=True)
    customer = sa.Column(sa.Text, nullable=False, unique=True)
    placed = sa.Column(sa.DateTime(timezone=True),
                       default=datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc))
    tags = sa.Column(postgresql.ARRAY(sa.Text), default=list)
    extra = sa.Column(postgresql.JSONB)
    lines = orm.relationship("Line", back_populates="order", order_by="Line.id", cascade="all, delete-orphan")


class Line(Base):
    __tablename__ = "lines"
    id = sa.Column(sa.Integer, sa.Identity(), primary_key=True)
    order_id = sa.Column(sa.ForeignKey(Order.id), nullable=False)
    price = sa.Column(sa.Numeric(10, 2), nullable=False)
    scan = sa.Column(sa.LargeBinary)
    order = orm.relationship(Order, back_populates="lines")


def show(label, *values):
    print(f"{label}:", *map(repr, values))


def attempt(label, act):
    """Show what act() returns, or the error that it raises."""
    try:
        show(label, act())
    except exc.DBAPIError as error:
        show(label, error.orig.pgcode, error.orig.diag.message_primary, type(error).__name__)


def core(engine):
    print("# Core")
    orders = Order.__table__
    with engine.begin() as connection:
        connection.execute(orders.insert(), [{"customer": f"customer {n}", "tags": ["a", str(n)],
                                              "extra": {"n": n}} for n in range(1, 51)])
    for n in range(3):
        with engine.connect() as connection:
            show("one", connection.execute(sa.select(orders).where(orders.c.customer == f"customer {n + 1}"))
                 .mappings().first())
    with engine.connect() as connection:
        upsert = postgresql.insert(orders).values(customer="customer 1", extra={"again": True})
        upsert = upsert.on_conflict_do_update(index_elements=["customer"], set_={"extra": upsert.excluded.extra})
        show("upserted", connection.execute(upsert.returning(orders.c.id, orders.c.extra)).all())
        connection.rollback()
        show("rolled back", connection.scalar(sa.select(orders.c.extra).where(orders.c.id == 1)))
        rows = connection.execution_options(stream_results=True, max_row_buffer=10).execute(
            sa.select(orders.c.id).order_by(orders.c.id))
        show("streamed", sum(rows.scalars()))
    with engine.connect() as connection:
        connection = connection.execution_options(isolation_level="SERIALIZABLE", postgresql_readonly=True)
        show("isolation", connection.scalar(sa.text("SHOW transaction_isolation")),
             connection.scalar(sa.text("SHOW transaction_read_only")))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f"VACUUM {SCHEMA}.orders"))
        show("isolation", connection.scalar(sa.text("SHOW transaction_isolation")),
             connection.scalar(sa.text("SHOW transaction_read_only")))


def errors(engine):
    print("# errors")
    with engine.connect() as connection, connection.begin():
        insert = sa.text(f"INSERT INTO {SCHEMA}.orders (customer) VALUES ('customer 1')")
        try:
            with connection.begin_nested():
                connection.execute(insert)
        except exc.IntegrityError as error:
            show("in a savepoint", error.orig.pgcode)
        show("goes on", connection.scalar(sa.text("SELECT 1")))
        attempt("fails", lambda: connection.execute(insert))
        attempt("then", lambda: connection.scalar(sa.text("SELECT 1")))
    with engine.connect() as connection:
        attempt("syntax", lambda: connection.execute(sa.text("SELEC 1")))


def objects(engine):
    print("# ORM")
    with orm.Session(engine) as session, session.begin():
        session.add(Order(customer="ada", tags=["new"], extra={"k": [1, None]}, lines=[
            Line(price=decimal.Decimal("9.90"), scan=b"\0\xff"), Line(price=decimal.Decimal("0.10"))]))
    with orm.Session(engine) as session:
        order = session.execute(sa.select(Order).where(Order.customer == "ada")
                                .options(orm.selectinload(Order.lines))).scalar_one()
        show("order", order.customer, order.placed, order.tags, order.extra,
             [(line.price, line.scan) for line in order.lines])
        order.extra = {**order.extra, "changed": True}
        with session.begin_nested() as savepoint:
            order.customer = "nobody"
            session.flush()
            savepoint.rollback()
        session.commit()
        show("after the savepoint", order.customer, order.extra)
        session.add(Order(customer="ada"))
        try:
            session.commit()
        except exc.IntegrityError as error:
            session.rollback()
            show("duplicate", error.orig.pgcode)
        order = session.execute(sa.select(Order).with_for_update().where(Order.customer == "ada")).scalar_one()
        session.delete(order)
        session.commit()
        show("deleted", session.scalar(sa.select(sa.func.count()).select_from(Line)))
        show("partitions", [len(part) for part in session.execute(
            sa.select(Order).order_by(Order.id).execution_options(yield_per=20)).scalars().partitions()])


def requests(engine):
    print("# requests of a web application: checked out with a ping, reset when given back")

    def request(customer):
        with orm.Session(engine) as session, session.begin():
            order = session.execute(sa.select(Order).where(Order.customer == customer)
                                    .with_for_update()).scalar_one()
            order.lines.append(Line(price=decimal.Decimal("1.25")))
            session.execute(sa.text("SELECT set_config('app.customer', :who, true)"), {"who": customer})
            assert session.scalar(sa.text("SELECT current_setting('app.customer')")) == customer

    def visitor(n):
        for turn in range(20):
            request(f"customer {1 + (n + turn) % 10}")

    visitors = [threading.Thread(target=visitor, args=[n]) for n in range(6)]
    for each in visitors:
        each.start()
    for each in visitors:
        each.join()
    with engine.connect() as connection:
        show("lines", connection.execute(sa.select(sa.func.count(), sa.func.sum(Line.price))).all())


def main():
    engine = sa.create_engine("postgresql+psycopg2://", pool_pre_ping=True, pool_size=3, max_overflow=2,
                              future=True)
    with engine.begin() as connection:
        connection.execute(sa.text(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"))
        connection.execute(sa.text(f"CREATE SCHEMA {SCHEMA}"))
    Base.metadata.create_all(engine)
    show("tables", sorted(sa.inspect(engine).get_table_names(SCHEMA)),
         [column["name"] for column in sa.inspect(engine).get_columns("orders", SCHEMA)])
    core(engine)
    errors(engine)
    objects(engine)
    requests(engine)
    with engine.begin() as connection:
        connection.execute(sa.text(f"DROP SCHEMA {SCHEMA} CASCADE"))
    engine.dispose()


main()
