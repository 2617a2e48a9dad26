# SPDX-License-Identifier: Apache-2.0
"""The parts of tools/bench's table besides the rates of single keys: each takes the Setup, the
Report and the options, and says what was found and whether it is what is asked for."""

import os
import statistics
import subprocess
import time

from bench_setup import BUILD, Half, Trouble, call, module_path, program, say, text_of

SLOW_MS, SLOW_SESSIONS, SLOW_CALLERS, SLOW_SHARE = 5, 16, 64, 0.95
AUDIT_RATIO, AUDIT_SYNCS = 0.95, ("off", "batch", "always")
AUDIT_ROWS = [("rsa2048", 2), ("rsa2048", 16), ("p256", 2), ("p256", 16)]
BUSY, CROWD_RATIO, MEMORY_MIB = 16, 0.95, 96
CALM = 1  # seconds in which hsmd gets over what was before
CROWD_PAIRS, CROWD_TIMES = 10, 4  # at most so many pairs; each run takes so many times as long
FLOODS = 10  # at most
CROWD_KEYS = 11  # CURVE keys that the idle ones have in turn; the busy ones have the first
SOFT_FILES = 1024  # the usual soft limit of open files
AT_ONCE_MS = 250  # within which a request is refused that cannot be served
SOAK_GROWTH_MIB = 4


def slow(setup, report, options):
    """The fault shim: so many milliseconds a signature, so many at once."""
    say("slow token ...")
    control = setup.path("shim.control")
    with open(control, "w") as file:
        file.write(f"delay C_Sign {SLOW_MS}\nat-once C_Sign {SLOW_SESSIONS}\n")
    shim = os.path.join(BUILD, "tests/libpkcs11_shim.so")
    environment = {"SHIM_MODULE": module_path(), "SHIM_CONTROL": control}
    daemon = setup.start(module=shim, sessions=SLOW_SESSIONS, environment=environment)
    row = setup.measure(f"p256:sign:{SLOW_CALLERS}", options.pairs, options.seconds, daemon,
                        module=shim, environment=environment)
    can = SLOW_SESSIONS * 1000 / SLOW_MS
    row["share_of_capacity"] = row["hsmd"] / can
    report.show(text_of(row, ""))
    report.add("slow", row, f"{row['hsmd']:.0f} of {can:.0f} a second, {SLOW_CALLERS} threads "
               f"(>= {SLOW_SHARE * 100:.0f} %)", row["hsmd"] >= SLOW_SHARE * can)


def audit(setup, report, options):
    """What writing the audit log to the disk costs: hsmds that differ in that alone, in turns."""
    setup.stop()
    daemons = {sync: setup.start_beside(f"hsmd-{sync}", sync=sync, sessions=options.sessions)
               for sync in AUDIT_SYNCS}
    rows = []
    for key, callers in AUDIT_ROWS:
        say(f"audit {key} {callers} ...")
        halves = {sync: Half(daemon, key, callers) for sync, daemon in daemons.items()}
        for half in halves.values():
            half.run(0.2)
        rounds = []
        for i in range(options.pairs):
            rates = {sync: halves[sync].run(options.seconds)[1]
                     for sync in (AUDIT_SYNCS if i % 2 else reversed(AUDIT_SYNCS))}
            rounds.append(rates)
        for half in halves.values():
            half.close()
        row = {"key": key, "op": "sign", "callers": callers}
        for sync in AUDIT_SYNCS:
            row[sync] = statistics.median(rates[sync] for rates in rounds)
            row[sync + "_ratio"] = statistics.median(rates[sync] / rates["off"] for rates in rounds)
        mark = ""
        if key == "rsa2048":
            mark = "  " + report.target(
                f"audit {key} sign {callers}: batch/off {row['batch_ratio']:.3f} "
                f"(>= {AUDIT_RATIO})", row["batch_ratio"] >= AUDIT_RATIO)
        texts = [f"{sync} {row[sync]:.0f}/s ({row[sync + '_ratio']:.3f})" for sync in AUDIT_SYNCS]
        report.show(f"audit: {key} sign {callers}: {', '.join(texts)}{mark}")
        rows.append(row)
    report.all["audit"] = rows


def connect_idle(daemon, count):
    idle = subprocess.Popen([program("hsmbench-crowd"), "idle", str(count), *daemon.client_files()],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            env=daemon.setup.environment)
    if idle.stdout.readline() != b"ready\n":
        raise Trouble("not all clients can connect")
    return idle


def end_idle(idle):
    idle.communicate()
    if idle.returncode:
        raise Trouble("not all clients are answered any more")


def crowd(setup, report, options):
    """Busy clients alone, and among many connected ones. Hundreds that have just come or gone are
    not what is measured, so there is a pause before either."""
    say("crowd ...")
    setup.add_clients(CROWD_KEYS - len(setup.clients))
    # With fewer clients than usual, fewer files: they are never as many as the soft limit allows.
    daemon = setup.start(sessions=options.sessions, files=min(SOFT_FILES, options.clients))
    half = Half(daemon, "p256", BUSY)
    pairs, memory, connected = [], 0, options.clients
    for i in range(min(options.pairs, CROWD_PAIRS)):
        rate = {}
        for among in (False, True) if i % 2 else (True, False):
            idle = connect_idle(daemon, options.clients - BUSY) if among else None
            time.sleep(CALM)
            half.run(0.2)
            rate[among] = half.run(CROWD_TIMES * options.seconds)[1]
            if idle:
                memory = max(memory, daemon.memory())
                connected = min(connected, daemon.connections())
                end_idle(idle)
        pairs.append((rate[False], rate[True]))
    half.close()
    peak = daemon.memory("VmHWM")
    ratio = statistics.median(b / a for a, b in pairs)
    values = {"clients": options.clients, "busy": BUSY, "ratio": ratio, "hsmd_rss_mib": memory,
              "hsmd_peak_mib": peak, "keys": len(setup.clients), "connected": connected, "alone": statistics.median(a for a, _ in pairs),
              "among": statistics.median(b for _, b in pairs)}
    report.add("crowd", values, f"{options.clients} clients with {len(setup.clients)} keys, "
               f"{connected} connected to the end, {BUSY} busy: {values['among']:.0f}/s "
               f"for {values['alone']:.0f}/s alone, ratio {ratio:.3f} (>= {CROWD_RATIO}), "
               f"hsmd {memory:.1f} MiB, at most {peak:.1f} (< {MEMORY_MIB})",
               ratio >= CROWD_RATIO and peak < MEMORY_MIB and connected >= options.clients)


def overload(setup, report, options):
    """More requests at a time than hsmd takes: the rest is answered "temp", and soon."""
    say("overload ...")
    daemon = setup.start(sessions=options.sessions)
    tries = []
    for _ in range(min(options.pairs, FLOODS)):
        out = call(program("hsmbench-crowd"), "flood", str(options.flood), "p256",
                   *daemon.client_files(), env=setup.environment)
        tries.append([float(field) for field in out.split()])
    peak = daemon.memory("VmHWM")
    columns = list(zip(*tries))
    ok, temp, other, p50, p99, last = (statistics.median(column) for column in columns)
    values = {"requests": options.flood, "ok": ok, "temp": temp, "other": other,
              "temp_p50_ms": p50, "temp_p99_ms": p99, "last_ms": last,
              "hsmd_rss_mib": daemon.memory(), "hsmd_peak_mib": peak}
    report.add("overload", values, f"{options.flood} requests at once: {ok:.0f} served, {temp:.0f} "
               f"refused as temp (> 0), p50 {p50:.1f} ms and p99 {p99:.1f} ms after each was sent "
               f"(<= {AT_ONCE_MS}), {other:.0f} otherwise (0), all in {last:.0f} ms; hsmd at most "
               f"{peak:.1f} MiB (< {MEMORY_MIB})",
               max(columns[2]) == 0 and min(columns[1]) > 0 and p99 <= AT_ONCE_MS
               and peak < MEMORY_MIB)


def soak(setup, report, options):
    """Resident memory over millions of signatures, once it has found its level."""
    wanted = max(int(options.soak * 1e6), 1)
    daemon = setup.start(sessions=options.sessions)
    half = Half(daemon, "p256", 16)
    done, memory, began = 0, [], time.monotonic()
    while done < wanted:
        done += half.run(5 if wanted > 200000 else 0.5)[0]
        memory.append((done, daemon.memory()))
        left = (time.monotonic() - began) * max(wanted - done, 0) / done
        say(f"soak: {done} of {wanted}, hsmd {memory[-1][1]:.1f} MiB, {left:.0f} s left")
    half.close()
    level = next(mib for count, mib in memory if count >= wanted / 20)
    growth = memory[-1][1] - level
    values = {"signatures": done, "seconds": time.monotonic() - began, "rss_level_mib": level,
              "rss_end_mib": memory[-1][1]}
    report.add("soak", values, f"{done} signatures: hsmd {level:.1f} MiB after a twentieth, "
               f"{memory[-1][1]:.1f} at the end (growth <= {SOAK_GROWTH_MIB})",
               growth <= SOAK_GROWTH_MIB)


PARTS = {"slow": slow, "audit": audit, "crowd": crowd, "overload": overload, "soak": soak}
