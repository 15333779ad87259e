"""The ledger is a Merkle tree: what was recorded before enters it in the order of its numbers"""

from datetime import datetime, timezone
import hashlib
import json
from typing import Any

from alembic import op
import rfc8785
import sqlalchemy as sa


revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None

PAGE = 500
WIDTH = 256


def upgrade() -> None:
    op.create_table(
        'ledger_leaves',
        sa.Column('place', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('record_number', sa.Integer(), sa.ForeignKey('records.number'), nullable=False),
        sa.Column('format', sa.String(length=60), nullable=False),
        sa.Column('hash', sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint('place'),
        sa.UniqueConstraint('record_number'),
    )
    op.create_index('ix_ledger_leaves_hash', 'ledger_leaves', ['hash'])
    op.create_table(
        'ledger_tiles',
        sa.Column('level', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('place', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('hashes', sa.LargeBinary(), nullable=False),
        sa.Column('root', sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint('level', 'place'),
    )
    op.create_table(
        'ledger_head',
        sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('size', sa.Integer(), nullable=False),
        sa.Column('frontier', sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint('id'),
    )
    op.create_table(
        'ledger_checkpoints',
        sa.Column('size', sa.Integer(), autoincrement=False, nullable=False),
        sa.Column('note', sa.Text(), nullable=False),
        sa.Column('signed_at', sa.Float(), nullable=False),
        sa.Column('published_at', sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint('size'),
    )
    op.create_table(
        'ledger_keys',
        sa.Column('key', sa.String(length=255), nullable=False),
        sa.Column('since', sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint('key'),
    )
    op.create_table(
        'ledger_cosignatures',
        sa.Column('size', sa.Integer(), sa.ForeignKey('ledger_checkpoints.size'), nullable=False),
        sa.Column('key', sa.String(length=255), nullable=False),
        sa.Column('line', sa.Text(), nullable=False),
        sa.Column('cosigned_at', sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint('size', 'key'),
    )
    op.create_index('ix_records_digest', 'records', ['digest'])
    _plant()


def _plant() -> None:
    """A leaf for each record there is, the tiles that are complete with them, and the head."""
    records = sa.table(
        'records', sa.column('number', sa.Integer), sa.column('build_id', sa.String), sa.column('image_digest', sa.String),
        sa.column('digest', sa.String), sa.column('body', sa.LargeBinary), sa.column('recorded_at', sa.Float),
    )
    leaves = sa.table(
        'ledger_leaves', sa.column('place', sa.Integer), sa.column('record_number', sa.Integer),
        sa.column('format', sa.String), sa.column('hash', sa.LargeBinary),
    )
    tiles = sa.table(
        'ledger_tiles', sa.column('level', sa.Integer), sa.column('place', sa.Integer),
        sa.column('hashes', sa.LargeBinary), sa.column('root', sa.LargeBinary),
    )
    head = sa.table(
        'ledger_head', sa.column('id', sa.Integer), sa.column('size', sa.Integer), sa.column('frontier', sa.LargeBinary)
    )
    connection = op.get_bind()
    size, last = 0, -1
    subtrees: list[tuple[int, bytes]] = []  # the complete subtrees so far, as (leaves, hash), each smaller than the one before
    rows_of_hashes: list[list[bytes]] = [[]]  # the hashes of the tile that is being filled, at each level
    while True:
        query = sa.select(records).where(records.c.number > last).order_by(records.c.number).limit(PAGE)
        page = connection.execute(query).all()
        if not page:
            break
        planted = []
        for record in page:
            record_format = json.loads(record.body)['format']
            leaf = hashlib.sha256(b'\x00' + _entry(record, record_format)).digest()
            planted.append({'place': size, 'record_number': record.number, 'format': record_format, 'hash': leaf})
            size += 1
            _fold(subtrees, leaf)
            level = 0
            rows_of_hashes[0].append(leaf)
            while len(rows_of_hashes[level]) == WIDTH:
                full = rows_of_hashes[level]
                within: list[tuple[int, bytes]] = []
                for one in full:
                    _fold(within, one)
                tile = {'level': level, 'place': size // WIDTH ** (level + 1) - 1, 'hashes': b''.join(full)}
                connection.execute(sa.insert(tiles).values(root=within[0][1], **tile))
                rows_of_hashes[level] = []
                level += 1
                if level == len(rows_of_hashes):
                    rows_of_hashes.append([])
                rows_of_hashes[level].append(within[0][1])
        connection.execute(sa.insert(leaves), planted)
        last = page[-1].number
    frontier = b''.join(one for _, one in subtrees)
    connection.execute(sa.insert(head).values(id=1, size=size, frontier=frontier))


def _entry(record: sa.Row[Any], record_format: str) -> bytes:
    time = datetime.fromtimestamp(record.recorded_at, timezone.utc)
    return rfc8785.dumps({
        'buildId': record.build_id,
        'format': 'goldsmith-ledger-entry/v1',
        'imageDigest': record.image_digest,
        'recordDigest': record.digest,
        'recordFormat': record_format,
        'recordedAt': time.strftime('%Y-%m-%dT%H:%M:%S.%fZ'),
    })


def _fold(subtrees: list[tuple[int, bytes]], one: bytes) -> None:
    count = 1
    while subtrees and subtrees[-1][0] == count:
        one = hashlib.sha256(b'\x01' + subtrees.pop()[1] + one).digest()
        count *= 2
    subtrees.append((count, one))


def downgrade() -> None:
    op.drop_index('ix_records_digest', 'records')
    for table in ('ledger_cosignatures', 'ledger_keys', 'ledger_checkpoints', 'ledger_head', 'ledger_tiles', 'ledger_leaves'):
        op.drop_table(table)
