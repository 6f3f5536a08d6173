"""Health: how far the log is, what holds it back, and who follows it how far behind."""

from eventstore.health.looking import FollowerHealth, Health, Holder, LogHealth, check_health, look

__all__ = ["FollowerHealth", "Health", "Holder", "LogHealth", "check_health", "look"]
