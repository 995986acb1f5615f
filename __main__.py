"""Pandom Stack: what is made, in the order in which it is made."""

from pandom.runtime.paths import ca_certificate
from stacks import outputs
from stacks.access import Access, AccessArgs
from stacks.cluster import Cluster, ClusterArgs
from stacks.database import Database, DatabaseArgs
from stacks.images import Images
from stacks.keys import Keys, KeysArgs
from stacks.migration import Migration, MigrationArgs
from stacks.network import Network, NetworkArgs
from stacks.operations import Operations, OperationsArgs
from stacks.program import adopted, current_settings
from stacks.storage import Storage, StorageArgs

settings = current_settings()

network = Network("network", NetworkArgs(settings.stack)).name
images = Images(
    "images", version=settings.postgres_version, monitoring=settings.metrics_port is not None
)
keys = Keys("keys", KeysArgs(settings, images.operations))
database = Database("database", DatabaseArgs(settings, images.postgres, network, keys))
access = Access("access", AccessArgs(settings, keys, database, adopted()))
cluster = Cluster("cluster", ClusterArgs(settings, images.operations, network, keys, access))
migration = Migration(
    "migration", MigrationArgs(settings, images.operations, network, keys, cluster)
)
storage = Storage("storage", StorageArgs(settings, images.minio, images.operations, network, keys))
operations = Operations(
    "operations",
    OperationsArgs(
        settings, images.operations, network, keys, migration, storage, database, images.metrics
    ),
)

outputs.export(settings, keys, database, storage, str(ca_certificate(settings.stack)))
