"""The control routes: each one is a method of the simulator."""

from app.simulator.http.control import Commands
from app.simulator.simulator import Simulator


def commands_of(simulator: Simulator) -> Commands:
    """`{path: {method: command}}`, below `/_control/`."""
    return {
        "state": {"GET": simulator.state},
        "settings": {"POST": simulator.configure},
        "clock": {"POST": simulator.set_clock},
        "reset": {"POST": simulator.reset},
        "settle": {"POST": simulator.settle},
        "accounts": {"POST": simulator.add_account},
        "keys": {"POST": simulator.add_key},
        "organization_keys": {"POST": simulator.add_organization_key},
        "keys/{secret}": {"POST": simulator.change_key},
        "connected": {"POST": simulator.connect_account},
        "connected/{id}": {"DELETE": simulator.disconnect_account},
        "report_types": {"POST": simulator.add_report_type},
        "report_types/{id}": {"DELETE": simulator.remove_report_type},
        "report_types/{report_type}/advance": {"POST": simulator.advance},
        "publish": {"POST": simulator.publish},
        "restate": {"POST": simulator.restate},
        "payouts": {"POST": simulator.add_payout},
        "payouts/reconcile": {"POST": simulator.reconcile_payouts},
        "endpoints": {"POST": simulator.add_endpoint},
        "endpoints/{id}": {"POST": simulator.change_endpoint},
        "endpoints/{id}/roll": {"POST": simulator.roll_secret},
        "runs": {"POST": simulator.create_run},
        "runs/{id}": {"POST": simulator.finish_run},
        "files/{id}/expire": {"POST": simulator.expire_file},
        "events": {"POST": simulator.emit},
        "events/release": {"POST": simulator.release},
        "events/{id}/resend": {"POST": simulator.resend},
        "faults": {"POST": simulator.inject, "DELETE": simulator.clear_faults},
    }
