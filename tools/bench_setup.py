# SPDX-License-Identifier: Apache-2.0
"""What tools/bench measures with: a SoftHSM2 token with keys, hsmds that have it, programs."""

import json
import os
import re
import resource
import subprocess
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(HERE)
BUILD = os.environ.get("SEALGATE_BUILD") or os.path.join(ROOT, "build/release")
NEEDED = ["bin/hsmd", "bin/hsmd.so", "bin/hsmctl", "bin/hsmbench-direct", "bin/hsmbench-hsmd",
          "bin/hsmbench-crowd", "tests/libpkcs11_shim.so"]

# pkcs11-tool's names, CKA_ID, what the key may do
KEYS = {
    "rsa2048": ("rsa:2048", "01", ("sign", "unwrap")),
    "p256": ("EC:prime256v1", "02", ("sign", "agree")),
    "rsa3072": ("rsa:3072", "03", ("sign", "unwrap")),
    "rsa4096": ("rsa:4096", "04", ("sign", "unwrap")),
    "p384": ("EC:secp384r1", "05", ("sign", "agree")),
    "p521": ("EC:secp521r1", "06", ("sign", "agree")),
    "ed25519": ("EC:edwards25519", "07", ("sign",)),
    "rsa2048-smime": ("rsa:2048", "08", ("sign",)),
}
PURPOSES = {"rsa2048-smime": "smime-sign"}  # of the others: general
AUDIT = ("EC:prime256v1", "09")  # the key that signs the audit log
USAGE = {"sign": "--usage-sign", "unwrap": "--usage-decrypt", "agree": "--usage-derive"}
SESSIONS = 4  # hsmd's own default
BUDGET = 1_000_000_000  # uses an hour, which is never reached but counted


class Trouble(Exception):
    pass


def say(text):
    print(text, file=sys.stderr, flush=True)


def prepare():
    """Packages and programs that are missing are installed and built, before anything is made."""
    missing = [name for name in NEEDED if not os.path.exists(os.path.join(BUILD, name))]
    if os.environ.get("SEALGATE_BUILD"):
        if missing:
            raise Trouble(f"{BUILD}, which SEALGATE_BUILD names, has no {', '.join(missing)}")
        return
    wanted = [["install-packages", "run", "demo"]] + ([["build", "release"]] if missing else [])
    for command in wanted:
        if subprocess.run([os.path.join(HERE, command[0]), *command[1:]],
                          stdout=sys.stderr).returncode:
            raise Trouble(f"tools/{' '.join(command)} failed")


def module_path():
    for path in ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so"):
        if os.path.exists(path):
            return path
    raise Trouble("no SoftHSM2 module found")


def program(name):
    return os.path.join(BUILD, "bin", name)


def tunables():
    """The allocator's settings, as hsmd.service sets them: every program here gets the same."""
    with open(os.path.join(HERE, "systemd/hsmd.service.in")) as file:
        found = re.search(r"^Environment=GLIBC_TUNABLES=(\S+)$", file.read(), re.M)
    return {"GLIBC_TUNABLES": found.group(1)} if found else {}


def call(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if done.returncode:
        raise Trouble(f"{command[0]}: {done.stderr or done.stdout}")
    return done.stdout


class Setup:
    """A token with keys, and the hsmds started for it. purposes: of keys that are not as usual."""

    def __init__(self, directory, keys, purposes=None):
        self.dir, self.keys, self.purposes = directory, keys, {**PURPOSES, **(purposes or {})}
        self.daemons, self.clients = [], []
        os.chmod(directory, 0o700)
        os.mkdir(self.path("objects"))
        with open(self.path("softhsm2.conf"), "w") as file:
            file.write(f"directories.tokendir = {self.path('objects')}\n"
                       "objectstore.backend = file\nlog.level = ERROR\n")
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith(("OPENSSL_", "HSMD_", "SHIM_", "GLIBC_"))}
        self.environment["SOFTHSM2_CONF"] = self.path("softhsm2.conf")
        self.environment.update(tunables())
        for name in ("pin", "so-pin"):
            with open(os.open(self.path(name), os.O_WRONLY | os.O_CREAT, 0o400), "w") as file:
                file.write(os.urandom(12).hex() + "\n")
        say("making the token ...")
        self.ask_pins("softhsm2-util", "--init-token", "--free", "--label", "bench", so=True)
        for key in keys:
            self.make_key(key, *KEYS[key])
        self.make_key("audit", *AUDIT, ("sign",))
        call(program("hsmd"), "keygen", self.path("server"))
        self.add_clients(1)

    def make_key(self, label, kind, number, operations):
        say(f"making {label} ...")
        self.tool("--keypairgen", "--key-type", kind, "--label", label, "--id", number,
                  "--sensitive", *(USAGE[operation] for operation in operations))

    def add_clients(self, count):
        """For the hsmds to be started, each with a CURVE key of its own and all grants."""
        for _ in range(count):
            self.clients.append(f"client{len(self.clients)}")
            call(program("hsmd"), "keygen", self.path(self.clients[-1]))

    def path(self, name):
        return os.path.join(self.dir, name)

    def ask_pins(self, *command, so=False):
        options = ["--so", self.path("so-pin")] if so else []
        call(os.path.join(HERE, "answer-pins"), *options, "--user", self.path("pin"), "--",
             *command, env=self.environment)

    def tool(self, *command):
        self.ask_pins("pkcs11-tool", "--module", module_path(), "--token-label", "bench", "--login",
                      *command)

    def start(self, **more):
        """A fresh hsmd, in the place of those there were."""
        self.stop()
        return self.start_beside("hsmd", **more)

    def start_beside(self, name, **more):
        self.daemons.append(Daemon(self, name, **more))
        self.daemons[-1].start()
        return self.daemons[-1]

    def stop(self):
        while self.daemons:
            self.daemons.pop().stop()

    def measure(self, row, pairs, seconds, daemon=None, module=None, through=None,
                environment=None):
        """One row, as hsmctl bench measures it; neither daemon nor through: a bare process."""
        with open(self.path("pin")) as pin:
            command = [program("hsmctl"), "bench", "--module", module or module_path(), "--token",
                       "bench", "--pin-fd", str(pin.fileno()), "--pairs", str(pairs), "--seconds",
                       str(seconds), "--json", row]
            if daemon:
                command += ["--conf", daemon.openssl_conf, "--pid", str(daemon.process.pid)]
            elif through:
                command += ["--through", through]
            else:
                command += ["--bare"]
            done = call(*command, env={**self.environment, **(environment or {})},
                        pass_fds=[pin.fileno()])
        return json.loads(done)["results"][0]


class Daemon:
    """An hsmd in a directory of its own, with an empty registry and audit log. files: the soft limit
    of open files it is started with."""

    def __init__(self, setup, name, module=None, sessions=SESSIONS, sync="batch", environment=None,
                 files=None):
        self.setup, self.dir, self.process = setup, setup.path(name), None
        self.module, self.sessions, self.sync = module or module_path(), sessions, sync
        self.files = files
        self.environment = {**setup.environment, **(environment or {})}
        self.endpoint = f"ipc://{self.path('data.sock')}"
        self.openssl_conf = self.path("openssl.cnf")

    def path(self, name):
        return os.path.join(self.dir, name)

    def client_files(self):
        """What hsmbench-crowd wants to know."""
        clients = [name + end for name in self.setup.clients for end in (".pub", ".key")]
        return [self.endpoint, *map(self.setup.path, ["server.pub", *clients])]

    def write_openssl_conf(self):
        with open(self.openssl_conf, "w") as file:
            file.write(f"""openssl_conf = init
[init]
providers = providers
[providers]
default = default_provider
hsmd = hsmd_provider
[default_provider]
activate = 1
[hsmd_provider]
module = {BUILD}/bin/hsmd.so
activate = 1
endpoints = {self.endpoint}
server-key-file = {self.setup.path('server.pub')}
public-key-file = {self.setup.path('client0.pub')}
secret-key-file = {self.setup.path('client0.key')}
""")

    def write_hsmd_conf(self):
        of = self.setup.path
        text = f"""listen = {{ '{self.endpoint}' }}
server-key-file = '{of("server.key")}'
state-directory = '{self.dir}'
log = stderr
audit-sync = {self.sync}
token main {{
    module = '{self.module}'  label = 'bench'  pin-file = '{of("pin")}'
    sessions = {self.sessions}
}}
audit-key {{ token = main  label = 'audit'  id = '{AUDIT[1]}' }}
"""
        for client in self.setup.clients:
            text += f"client {client} {{ public-key-file = '{of(client + '.pub')}' }}\n"
        for key in self.setup.keys:
            _, number, operations = KEYS[key]
            purpose = self.setup.purposes.get(key, "general")
            use = operations if purpose == "general" else ("sign",)
            text += (f"key {key} {{ token = main  label = '{key}'  id = '{number}'"
                     f"  purpose = {purpose} }}\n")
            for client in self.setup.clients:
                text += (f"grant {{ client = {client}  key = {key}"
                         f"  operations = {{ {', '.join(use)} }}  per-hour = {BUDGET} }}\n")
        with open(self.path("hsmd.conf"), "w") as file:
            file.write(text)

    def start(self):
        os.makedirs(self.dir, 0o700, exist_ok=True)
        for name in ("audit.log", "audit.head", "registry.db", "hsmd.conf.before-migration"):
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
        self.write_hsmd_conf()
        self.write_openssl_conf()
        call(program("hsmd"), "migrate", "-c", self.path("hsmd.conf"), env=self.environment)
        ready, theirs = os.pipe()
        with open(self.path("hsmd.log"), "a") as log:
            self.process = subprocess.Popen(
                [program("hsmd"), "-c", self.path("hsmd.conf"), "--ready-fd", str(theirs)],
                env=self.environment, stderr=log, pass_fds=[theirs], preexec_fn=self.limit_files)
        os.close(theirs)
        with open(ready) as file:
            if not file.readline():
                with open(self.path("hsmd.log")) as log:
                    raise Trouble("hsmd does not start: " + log.read())

    def limit_files(self):
        if self.files:
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(self.files, hard), hard))

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def memory(self, what="VmRSS"):
        """Resident MiB now, or the most there ever was (VmHWM)."""
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(what + r":\s+(\d+)", file.read()).group(1)) / 1024


    def connections(self):
        """Of clients, that hsmd has open. Its /proc/PID/fd is for root alone, but what it has
        accepted is named by where it listens (state 3; those that wait have 2)."""
        with open("/proc/net/unix") as file:
            lines = [line.split() for line in file]
        return sum(line[7:] == [self.path("data.sock")] and line[5] == "03" for line in lines)


class Half:
    """hsmbench-hsmd; see tools/bench_half.h."""

    def __init__(self, daemon, key, callers, operation="sign"):
        self.process = subprocess.Popen(
            [program("hsmbench-hsmd"), "--conf", daemon.openssl_conf, "--key", key, "--op",
             operation, "--callers", str(callers)],
            env=daemon.setup.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline().startswith("ready "):
            raise Trouble("hsmbench-hsmd does not come up")

    def run(self, seconds):
        """Operations, and how many a second."""
        self.process.stdin.write(f"run {int(seconds * 1000)}\n")
        self.process.stdin.flush()
        fields = self.process.stdout.readline().split()
        if len(fields) != 6 or int(fields[5]):
            raise Trouble("operations failed")
        return int(fields[0]), int(fields[0]) / float(fields[1])

    def close(self):
        self.process.stdin.close()
        if self.process.wait(30):
            raise Trouble("the last signature of hsmbench-hsmd is wrong")


SAMPLES = 1000  # a p99 of fewer operations says little
HEADER = (f"{'key':13} {'op':11} {'callers':>7} {'direct/s':>9} {'hsmd/s':>9} {'ratio':>6} "
          f"{'p50 us':>13} {'p99 us':>13} {'added p50/p99':>13} {'CPU us/op':>13}  targets")


def text_of(row, marks):
    def both(name, scale=1):
        other = f"{row['hsmd_' + name] * scale:.0f}" if "hsmd_" + name in row else "?"
        return f"{row['direct_' + name] * scale:.0f}/{other}"
    added = f"{row['added_p50_us']:.0f}/{row['added_p99_us']:.0f}"
    return (f"{row['key']:13} {row['op']:11} {row['callers']:7} {row['direct']:9.1f} "
            f"{row['hsmd']:9.1f} {row['ratio']:6.3f} {both('p50_us'):>13} {both('p99_us'):>13} "
            f"{added:>13} {both('cpu_s', 1e6):>13}  {marks}")


class Report:
    def __init__(self, is_json):
        self.is_json, self.all, self.missed = is_json, {"results": []}, []

    def show(self, text):
        if not self.is_json:
            print(text, flush=True)

    def target(self, what, is_met):
        if not is_met:
            self.missed.append(what)
        return ("met: " if is_met else "MISSED: ") + what

    def add_row(self, row, targets):
        marks = []
        for name, limit in targets.items():
            is_met = row[name] >= limit if name == "ratio" else row[name] <= limit
            what = f"{name} {row[name]:.3g} ({'>=' if name == 'ratio' else '<='} {limit})"
            marks.append(self.target(f"{row['key']} {row['op']} {row['callers']}: {what}", is_met)
                         .replace(f"{row['key']} {row['op']} {row['callers']}: ", ""))
        samples = min(row["direct_operations"], row["hsmd_operations"])
        if samples < SAMPLES:
            marks.append(f"p99 of {samples:.0f} operations only")
        row["targets"] = targets
        self.all["results"].append(row)
        self.show(text_of(row, "; ".join(marks)))

    def add(self, name, values, what, is_met):
        self.all[name] = values
        self.show(f"{name}: {self.target(what, is_met)}")
