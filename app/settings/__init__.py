"""Every setting, read once where a command begins; what is wrong is told all at once, and never repeats a value."""

from app.settings.load import load_settings
from app.settings.model import DEFAULT_ACCOUNT, SETTING_NAMES, Account, NamedToken, Settings, setting_name

__all__ = ["DEFAULT_ACCOUNT", "SETTING_NAMES", "Account", "NamedToken", "Settings", "load_settings", "setting_name"]
