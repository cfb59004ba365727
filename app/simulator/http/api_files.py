"""`/v1/files/…`: a report's file object, and its bytes for those who have the key."""

from app.simulator import errors
from app.simulator.faults import FILE_FAULTS, Subject
from app.simulator.http.calls import Answer, Call, FileBody, answer
from app.simulator.state.model import ReportFile


def retrieve_file(call: Call) -> Answer:
    return answer(_file(call).rendered())


def file_contents(call: Call) -> Answer:
    file = _file(call)
    if file.expires_at <= call.world.clock.now():
        raise _gone(file.id)
    faults = call.world.faults.strike(FILE_FAULTS, _subject(call, file))
    if "file_gone" in faults:
        raise _gone(file.id)
    if "file_redirect" in faults:
        return Answer(status=302, headers={"Location": faults["file_redirect"].url or "http://files.invalid/"})
    wanted = _range(call, file) if call.world.settings.ranges else None
    return Answer(file=FileBody(file, wanted, faults))


def _file(call: Call) -> ReportFile:
    file = call.account.files.get(call.names["id"])
    if file is None or file.owner != call.owner:
        raise _gone(call.names["id"])
    return file


def _gone(identifier: str) -> errors.ApiError:
    return errors.not_found("file upload", identifier, param="file")


def _subject(call: Call, file: ReportFile) -> Subject:
    return Subject(
        method=call.method,
        path=call.path,
        key=call.key.secret,
        account=call.account.name,
        report_type=file.recipe.report_type,
    )


def _range(call: Call, file: ReportFile) -> str | None:
    """The requested range, unless the client has a part of another file."""
    unchanged = call.headers.get("if-range")
    return call.headers.get("range") if unchanged in (None, etag(file)) else None


def etag(file: ReportFile) -> str:
    return f'"{file.id}"'
