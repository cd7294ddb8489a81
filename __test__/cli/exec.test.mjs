import { after, describe, test } from "node:test"
import assert from "node:assert/strict"
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import Mutex from "ipc-mutex"
import { watchLeaks } from "../support/leaks.mjs"
import { noLeftovers, redis } from "../support/servers.mjs"
import { alive } from "../support/processes.mjs"
import { waitFor } from "../support/waiting.mjs"
import { PATIENT, run, start } from "./programs.mjs"

watchLeaks()
const server = await redis(after, { password: true })
let count = 0
const freshUrl = () => server.url(`exec-${++count}`, PATIENT)

/** An open mutex of the lock, closed with the test. */
async function opened (t, url) {
    const mutex = new Mutex(url)
    await mutex.open()
    t.after(() => mutex.close())
    return mutex
}

/** Resolves when so many wait for the lock. */
async function waiting (mutex, number) {
    await waitFor(async () => (await mutex.query()).pending.length === number, { timeout: 60_000, what: `${number} waiting for ${mutex.id}` })
}

const script = (code) => [ "--", process.execPath, "-e", code ]
const shell = (code) => [ "--", "sh", "-c", code ]

describe("the command", () => {
    test("runs while the lock is held, and the lock is free when it has ended", async (t) => {
        const url = freshUrl()
        const mutex = await opened(t, url)
        const job = start(t, "ipc-mutex", [ "exec", url, ...shell("echo in; read line; echo $line") ])
        job.input.write("")
        const { code, stdout, stderr } = await job.end()
        assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: "in\n\n", stderr: "" })
        assert.equal(await mutex.tryAcquire(), true)
        await mutex.release()
        const held = start(t, "ipc-mutex", [ "exec", url, ...script("console.log('in'); process.stdin.resume(); setInterval(() => {}, 1000)") ])
        await held.says("in")
        assert.equal(await mutex.tryAcquire(), false)
        const { held: [ holder ] } = await mutex.query()
        assert.equal(holder.pid, held.pid)
        assert.match(holder.label, /^node/)
        held.signal("SIGTERM")
        assert.equal((await held.end()).signal, "SIGTERM")
        assert.equal(await mutex.tryAcquire(), true)
    })

    test("gets standard input, and its two outputs are its own", async (t) => {
        const { code, stdout, stderr } = await run(t, "ipc-mutex", [ "exec", freshUrl(), ...shell("cat; echo err >&2") ], { input: "some\ntext" })
        assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: "some\ntext", stderr: "err\n" })
    })

    test("gets its arguments as they are, without a shell", async (t) => {
        const words = [ "a b", "$HOME", "*", "-n", "--", "--help", "'\"" ]
        const { stdout } = await run(t, "ipc-mutex", [ "exec", freshUrl(), ...script("console.log(JSON.stringify(process.argv.slice(1)))"), "--", ...words ])
        assert.deepEqual(JSON.parse(stdout), words)
    })

    test("decides the exit code", async (t) => {
        for (const wanted of [ 0, 1, 3, 64, 255 ])
            assert.equal((await run(t, "ipc-mutex", [ "exec", freshUrl(), ...shell(`exit ${wanted}`) ])).code, wanted)
    })

    test("that a signal ends takes this program with it", async (t) => {
        for (const name of [ "KILL", "TERM", "SEGV", "USR1", "HUP" ]) {
            const { code, signal } = await run(t, "ipc-mutex", [ "exec", freshUrl(), ...shell(`kill -${name} $$`) ])
            assert.deepEqual({ code, signal }, { code: null, signal: `SIG${name}` })
        }
        // Real-time signals are not for every program that looks at how another one has ended.
        assert.equal((await run(t, "ipc-mutex", [ "exec", freshUrl(), ...shell("kill -34 $$") ])).code, 162)
    })

    test("gets a fencing token that is larger each time", async (t) => {
        const url = freshUrl()
        const tokens = []
        for (let i = 0; i < 3; i++)
            tokens.push(BigInt((await run(t, "ipc-mutex", [ "exec", url, ...shell("echo $IPC_MUTEX_TOKEN") ])).stdout))
        assert.ok(tokens[0] > 0n && tokens[0] < tokens[1] && tokens[1] < tokens[2], tokens.join())
    })

    test("that does not exist gives 127, one that cannot be executed 126, and the lock is given back", async (t) => {
        const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-exec-"))
        t.after(() => rmSync(folder, { recursive: true }))
        const plain = join(folder, "plain")
        writeFileSync(plain, "#!/bin/sh\n")
        chmodSync(plain, 0o644)
        const url = freshUrl()
        const cases = [ [ "no-such-command-anywhere", 127, /command not found/ ], [ join(folder, "gone"), 127, /command not found/ ],
            [ plain, 126, /permission denied/ ], [ folder, 126, /permission denied/ ] ]
        for (const [ command, wanted, pattern ] of cases) {
            const { code, stdout, stderr } = await run(t, "ipc-mutex", [ "exec", url, "--", command, "--secret=hunter2" ])
            assert.equal(code, wanted, command)
            assert.equal(stdout, "")
            assert.match(stderr, pattern)
            assert.match(stderr, /^ipc-mutex: [^\n]+\n$/)
            assert.doesNotMatch(stderr, /hunter2/)
        }
        assert.equal(await (await opened(t, url)).tryAcquire(), true)
    })

    test("finds the lock's URL in the environment", async (t) => {
        const url = freshUrl()
        const mutex = await opened(t, url)
        await mutex.acquire()
        const { code } = await run(t, "ipc-mutex", [ "exec", "-n", ...shell("exit 5") ], { env: { IPC_MUTEX_URL: url } })
        assert.equal(code, 1)
        await mutex.release()
        assert.equal((await run(t, "ipc-mutex", [ "exec", "-n", ...shell("exit 5") ], { env: { IPC_MUTEX_URL: url } })).code, 5)
    })
})

describe("a lock that is taken", () => {
    test("is waited for", async (t) => {
        const url = freshUrl()
        const mutex = await opened(t, url)
        await mutex.acquire()
        const job = start(t, "ipc-mutex", [ "exec", url, ...shell("echo in") ])
        await waiting(mutex, 1)
        assert.equal(job.stdout, "")
        await mutex.release()
        const { code, stdout } = await job.end()
        assert.deepEqual({ code, stdout }, { code: 0, stdout: "in\n" })
    })

    test("is waited for with a line on standard error, at once with --verbose, which names the holder", async (t) => {
        const url = freshUrl()
        const mutex = new Mutex(url, { label: "nightly backup" })
        await mutex.open()
        t.after(() => mutex.close())
        await mutex.acquire()
        const jobs = [ [], [ "--verbose" ] ].map((options) => start(t, "ipc-mutex", [ "exec", ...options, url, ...shell("echo in") ]))
        for (const job of jobs)
            await job.says(/^ipc-mutex: waiting \d+ s for lock "exec-\d+", held for \d+ s by nightly backup \([^\n]+\n/, "stderr")
        await mutex.release()
        for (const job of jobs)
            assert.equal((await job.end()).stderr.match(/waiting/g).length, 1)
    })

    test("is a conflict at once with --nonblock, and after its time with --timeout", async (t) => {
        const url = freshUrl()
        const mutex = await opened(t, url)
        await mutex.acquire()
        for (const options of [ [ "-n" ], [ "--nonblock" ], [ "-w", "0.3" ], [ "-w.3" ], [ "--timeout=0" ], [ "-x", "-n" ] ]) {
            const begun = performance.now()
            const { code, stdout, stderr } = await run(t, "ipc-mutex", [ "exec", ...options, url, ...shell("echo in") ])
            assert.deepEqual({ code, stdout }, { code: 1, stdout: "" })
            assert.match(stderr, /^ipc-mutex: lock "exec-\d+" is held [^\n]+\n$/)
            if (options.join().includes(".3"))
                assert.ok(performance.now() - begun >= 300)
            assert.equal(stderr.endsWith("; gave up after 0.3 s\n"), options.join().includes(".3"))
        }
        await waiting(mutex, 0)
    })

    test("gives the exit code of -E, and with 0 not a word", async (t) => {
        const url = freshUrl()
        const mutex = await opened(t, url)
        await mutex.acquire()
        assert.equal((await run(t, "ipc-mutex", [ "exec", "-n", "-E", "42", url, ...shell("") ])).code, 42)
        assert.equal((await run(t, "ipc-mutex", [ "exec", "-w", "0.1", "--conflict-exit-code", "7", url, ...shell("") ])).code, 7)
        const silent = await run(t, "ipc-mutex", [ "exec", "-n", "-E", "0", url, ...shell("") ])
        assert.deepEqual({ code: silent.code, stderr: silent.stderr }, { code: 0, stderr: "" })
        const talking = await run(t, "ipc-mutex", [ "exec", "-n", "-E", "0", "--verbose", url, ...shell("") ])
        assert.equal(talking.code, 0)
        assert.match(talking.stderr, /is held/)
    })

    test("is no longer waited for after a signal", async (t) => {
        const url = freshUrl()
        const mutex = await opened(t, url)
        await mutex.acquire()
        for (const name of [ "SIGTERM", "SIGINT", "SIGHUP" ]) {
            const job = start(t, "ipc-mutex", [ "exec", url, ...shell("echo in") ])
            await waiting(mutex, 1)
            job.signal(name)
            const result = await job.end()
            assert.deepEqual({ signal: result.signal, stdout: result.stdout }, { signal: name, stdout: "" })
            await waiting(mutex, 0)
        }
    })

    test("is shared by those who share it", async (t) => {
        const url = freshUrl()
        const mutex = await opened(t, url)
        await mutex.acquire({ shared: true })
        assert.equal((await run(t, "ipc-mutex", [ "exec", "-s", "-n", url, ...shell("exit 9") ])).code, 9)
        const { code, stderr } = await run(t, "ipc-mutex", [ "exec", "-x", "-n", url, ...shell("exit 9") ])
        assert.equal(code, 1)
        assert.match(stderr, /held shared/)
    })

    test("lets one after the other in", async (t) => {
        const url = freshUrl()
        const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-exec-"))
        t.after(() => rmSync(folder, { recursive: true }))
        const critical = shell("mkdir inside && sleep 0.1 && rmdir inside")
        const jobs = Array.from({ length: 4 }, () => run(t, "ipc-mutex", [ "exec", url, ...critical ], { cwd: folder }))
        for (const { code, stderr } of await Promise.all(jobs))
            assert.equal(code, 0, stderr)
    })
})

describe("signals", () => {
    test("are passed on to the command, which decides what they mean", async (t) => {
        const names = [ "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2" ]
        const traps = names.map((name) => `trap 'echo got ${name}' ${name.slice(3)};`).join(" ")
        const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-exec-"))
        t.after(() => rmSync(folder, { recursive: true }))
        const command = shell(`${traps} echo ready; until [ -e end ]; do sleep 0.05; done; exit 17`)
        const job = start(t, "ipc-mutex", [ "exec", freshUrl(), ...command ], { cwd: folder })
        await job.says("ready")
        for (const name of names) {
            job.signal(name)
            await job.says(`got ${name}`)
        }
        job.signal("SIGTERM")
        writeFileSync(join(folder, "end"), "")
        assert.equal((await job.end()).code, 17)
    })

    test("that end the command end this program too, with the lock given back", async (t) => {
        const url = freshUrl()
        const mutex = await opened(t, url)
        for (const name of [ "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT" ]) {
            const job = start(t, "ipc-mutex", [ "exec", url, ...shell("echo ready; exec sleep 100") ])
            await job.says("ready")
            job.signal(name)
            assert.equal((await job.end()).signal, name)
            assert.equal(await mutex.tryAcquire(), true)
            await mutex.release()
        }
    })
})

describe("a lock that is lost", () => {
    // Long enough that a busy machine does not lose it before the command has begun; the next renewal, after a third of it, notices.
    const url = () => server.url(`exec-${++count}`, { ...PATIENT, ttl: 7 })
    const key = () => `exec-${count}/lock.IPC-Mutex-rpm`
    /** Gives the latest lock to somebody else, for the rest of the test. */
    const steal = async (t) => {
        const stolen = key()
        t.after(() => server.admin.command("DEL", stolen))
        await server.admin.command("SET", stolen, "1234567890123", "PX", "120000")
    }

    test("ends the command with SIGTERM, and the exit code says so", async (t) => {
        const job = start(t, "ipc-mutex", [ "exec", "--grace", "100", url(), ...shell("echo $$; exec sleep 100") ])
        await job.says("\n")
        await steal(t)
        const { code, stderr, stdout } = await job.end()
        assert.equal(code, 75)
        assert.match(stderr, /^ipc-mutex: lock "exec-\d+" was lost[^\n]*the command is told to end\n$/)
        assert.equal(alive(Number(stdout)), false)
    })

    test("says so also when the command makes a success of it", async (t) => {
        const job = start(t, "ipc-mutex", [ "exec", "--grace", "100", url(), ...script(`
            process.on("SIGTERM", () => { console.log("cleaned up"); process.exit(0) })
            console.log("ready")
            setInterval(() => {}, 1000)`) ])
        await job.says("ready")
        await steal(t)
        const { code, stdout } = await job.end()
        assert.equal(code, 75)
        assert.match(stdout, /cleaned up/)
    })

    test("ends a command that does not listen with SIGKILL", async (t) => {
        // a busy machine may need a while to let the command say its word
        const job = start(t, "ipc-mutex", [ "exec", "--kill-after", "5.5", url(), ...script(`
            process.on("SIGTERM", () => console.log("no"))
            console.log(process.pid)
            setInterval(() => {}, 1000)`) ])
        await job.says("\n")
        const pid = Number.parseInt(job.stdout)
        await steal(t)
        await job.says("no")
        const { code, stderr } = await job.end()
        assert.equal(code, 75)
        assert.match(stderr, /was lost[^\n]*\n[^\n]*is killed\n$/)
        assert.equal(alive(pid), false)
    })

    test("is noticed after the program stood still for longer than its lease", async (t) => {
        const job = start(t, "ipc-mutex", [ "exec", url(), ...shell("echo ready; exec sleep 100") ])
        await job.says("ready")
        job.signal("SIGSTOP")
        await waitFor(async () => await server.admin.command("EXISTS", key()) === 0, { timeout: 60_000, what: "the lease to end" })
        job.signal("SIGCONT")
        assert.equal((await job.end()).code, 75)
    })
})

test("--verbose says what happens, on standard error", async (t) => {
    const { code, stdout, stderr } = await run(t, "ipc-mutex", [ "exec", "--verbose", freshUrl(), ...shell("echo in; exit 3") ])
    assert.equal(code, 3)
    assert.equal(stdout, "in\n")
    assert.match(stderr, /^ipc-mutex: got the exclusive lock "exec-\d+" after \d+ s, token \d+\nipc-mutex: the command has ended with exit code 3\n$/)
})

describe("on a terminal", () => {
    test("a wait shows who holds the lock and for how long", async (t) => {
        const url = freshUrl()
        const mutex = new Mutex(url, { label: "nightly backup" })
        await mutex.open()
        t.after(() => mutex.close())
        await mutex.acquire()
        const job = start(t, "ipc-mutex", [ "exec", url, ...shell("echo in") ], { terminal: true })
        await job.says(/waiting \d+ s for lock "exec-\d+", held for \d+ s by nightly backup \(/)
        await mutex.release()
        const { code, stdout } = await job.end()
        assert.equal(code, 0)
        // the line is gone before the command says a word
        assert.ok(stdout.endsWith("\r\x1b[Kin\r\n"), JSON.stringify(stdout.slice(-60)))
    })
})

test("nothing is left at the server", async () => {
    // Less than the rest of the lease of a lock that was forgotten.
    await noLeftovers(server, { timeout: 18_000 })
})
