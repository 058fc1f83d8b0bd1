"""The same work on many machines, by Ray: functions over items on every node, one driver that takes the outcomes."""

from reelseek.cluster.cluster import Cluster, Shared
from reelseek.cluster.connection import connect
from reelseek.cluster.pool import Resources

__all__ = ["Cluster", "Resources", "Shared", "connect"]
