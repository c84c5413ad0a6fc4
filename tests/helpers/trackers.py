"""A tracker that keeps what it is given, for tests in this process and in others."""

from accelerate.tracking import GeneralTracker


class Recorder(GeneralTracker):
    name, requires_logging_directory, calls = "recorder", False, []

    def __init__(self, project, folder="", **options):
        super().__init__()
        self.calls.append(("init", project, folder, options))

    @property
    def tracker(self):
        return self.calls

    def start(self):
        self.calls.append(("start",))

    def store_init_configuration(self, values):
        self.calls.append(("config", values))

    def log(self, values, step=None, **_):
        self.calls.append(("log", step, values))

    def finish(self):
        self.calls.append(("finish",))


class FolderRecorder(Recorder):
    requires_logging_directory = True
