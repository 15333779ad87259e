"""Releases by requester, and images by package and finding"""

import json
import re

from alembic import op
import sqlalchemy as sa


revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('releases') as table:
        table.add_column(sa.Column('requester', sa.String(length=100), server_default='', nullable=False))
        table.drop_index('ix_releases_recipe')
        table.create_index('ix_releases_recipe', ['recipe_name', 'released_at', 'build_id'])
        table.create_index('ix_releases_requester', ['requester', 'released_at', 'build_id'])
        table.create_index('ix_releases_released_at', ['released_at', 'build_id'])
    op.create_table(
        'components',
        sa.Column('id', sa.Integer(), autoincrement=True, nullable=False),
        sa.Column('name', sa.String(length=255), nullable=False),
        sa.Column('version', sa.String(length=255), nullable=False),
        sa.Column('upstream', sa.String(length=255), nullable=False),
        sa.Column('source', sa.String(length=255), nullable=False),
        sa.Column('purl', sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('name', 'version', 'source', 'purl'),
    )
    op.create_index('ix_components_source', 'components', ['source'])
    op.create_table(
        'known_images',
        sa.Column('id', sa.Integer(), autoincrement=True, nullable=False),
        sa.Column('digest', sa.String(length=71), nullable=False),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('digest'),
    )
    op.create_table(
        'image_components',
        sa.Column('component_id', sa.Integer(), sa.ForeignKey('components.id'), nullable=False),
        sa.Column('image_id', sa.Integer(), sa.ForeignKey('known_images.id'), nullable=False),
        sa.PrimaryKeyConstraint('component_id', 'image_id'),
    )
    op.create_index('ix_findings_vulnerability', 'findings', ['vulnerability'])
    _fill(op.get_bind())


def downgrade() -> None:
    op.drop_index('ix_findings_vulnerability', table_name='findings')
    op.drop_table('image_components')
    op.drop_table('known_images')
    op.drop_table('components')
    with op.batch_alter_table('releases') as table:
        table.drop_index('ix_releases_released_at')
        table.drop_index('ix_releases_requester')
        table.drop_index('ix_releases_recipe')
        table.create_index('ix_releases_recipe', ['recipe_name', 'released_at'])
        table.drop_column('requester')


def _fill(connection: sa.Connection) -> None:
    """What earlier releases have, from their builds and their bills of materials."""
    connection.execute(sa.text(
        'UPDATE releases SET requester = (SELECT requester FROM builds WHERE builds.id = releases.build_id)'
    ))
    components: dict[tuple[str, str, str, str], int] = {}
    known: set[str] = set()
    builds = connection.execute(sa.text('SELECT digest, build_id FROM releases ORDER BY released_at')).all()
    for digest, build in builds:
        if digest in known:
            continue
        document = connection.execute(sa.text(
            'SELECT content FROM blobs JOIN attachments ON blob_digest = digest '
            "WHERE build_id = :build AND kind = 'sbom-cyclonedx'"
        ), {'build': build}).scalar()
        if document is None:
            continue
        known.add(digest)
        connection.execute(sa.text('INSERT INTO known_images (digest) VALUES (:digest)'), {'digest': digest})
        image = connection.execute(
            sa.text('SELECT id FROM known_images WHERE digest = :digest'), {'digest': digest}
        ).scalar_one()
        for key, upstream in _packages(bytes(document)).items():
            if key not in components:
                values = dict(zip(('name', 'version', 'source', 'purl'), key), upstream=upstream)
                connection.execute(sa.text(
                    'INSERT INTO components (name, version, source, purl, upstream) '
                    'VALUES (:name, :version, :source, :purl, :upstream)'
                ), values)
                components[key] = connection.execute(sa.text(
                    'SELECT id FROM components '
                    'WHERE name = :name AND version = :version AND source = :source AND purl = :purl'
                ), values).scalar_one()
            connection.execute(
                sa.text('INSERT INTO image_components (component_id, image_id) VALUES (:component, :image)'),
                {'component': components[key], 'image': image},
            )


def _packages(document: bytes) -> dict[tuple[str, str, str, str], str]:
    found = {}
    for one in json.loads(document).get('components', []):
        if 'purl' not in one:
            continue
        named = {extra['name']: extra.get('value', '') for extra in one.get('properties', [])}
        source = named.get('aquasecurity:trivy:SrcName') or one['name']
        version = one.get('version', '')
        upstream = re.sub(r'^\d+:', '', version)
        if one['purl'].startswith('pkg:deb/'):
            upstream = upstream.rpartition('-')[0] or upstream
        found[one['name'][:255], version[:255], source[:255], one['purl'][:1000]] = upstream[:255]
    return found
