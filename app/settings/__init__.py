"""Every setting, read once when a command starts; all problems are reported at once, and no message repeats a value."""

from app.settings.accounts import DEFAULT_ACCOUNT, Account, AccountEntry, Accounts
from app.settings.load import load_settings
from app.settings.model import SETTING_NAMES, NamedToken, Settings, setting_name

__all__ = [
    "DEFAULT_ACCOUNT",
    "SETTING_NAMES",
    "Account",
    "AccountEntry",
    "Accounts",
    "NamedToken",
    "Settings",
    "load_settings",
    "setting_name",
]
