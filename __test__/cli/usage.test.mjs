import { describe, test } from "node:test"
import assert from "node:assert/strict"
import { existsSync } from "node:fs"
import { createRequire } from "node:module"
import { watchLeaks } from "../support/leaks.mjs"
import { run } from "./programs.mjs"

watchLeaks()
const { version } = createRequire(import.meta.url)("../../package.json")

/** Fails unless the program has ended with `code` and one line on standard error that begins with its name. */
function refused ({ code: actual, stdout, stderr }, code, pattern = /./) {
    assert.equal(actual, code, stderr)
    assert.equal(stdout, "")
    assert.match(stderr, /^(ipc-mutex|withlock|pgmutex): [^\n]+\n$/)
    assert.match(stderr, pattern)
    assert.doesNotMatch(stderr, /hunter2|\n {4}at /)
}

const SECRET = "rpm+redis://x:hunter2@127.0.0.1:1/foo"

describe("--help", () => {
    const answers = {
        "ipc-mutex --help": /exec[^]*status[^]*IPC_MUTEX_URL/,
        "ipc-mutex exec --help": /--nonblock[^]*--timeout[^]*--conflict-exit-code[^]*--close[^]*--grace[^]*IPC_MUTEX_TOKEN[^]*75/,
        "ipc-mutex help": /exec[^]*status[^]*IPC_MUTEX_URL/,
        "ipc-mutex help exec": /--nonblock/,
        "ipc-mutex help status": /--watch/,
        "ipc-mutex status -h": /--json[^]*--watch/,
        "withlock --help": /withlock <lockName> \[--db <connectionString>\] -- <command>[^]*PG_CONNECTION_STRING/,
        "pgmutex -h": /pgmutex \[--db <connectionString>\] \[--name <lock>\] <command>[^]*PG_CONNECTION_STRING/
    }
    for (const [ line, pattern ] of Object.entries(answers))
        test(`of ${line} answers on standard output in lines that fit`, async (t) => {
            const [ name, ...args ] = line.split(" ")
            const { code, stdout, stderr } = await run(t, name, args)
            assert.equal(code, 0)
            assert.equal(stderr, "")
            assert.match(stdout, pattern)
            assert.ok(stdout.split("\n").every((text) => text.length <= 80))
        })

    test("needs no addon, and a missing addon is an error in one line", async (t) => {
        const env = { IPC_MUTEX_NATIVE: "/nowhere/x.node" }
        assert.equal((await run(t, "ipc-mutex", [ "exec", "--help" ], { env })).code, 0)
        refused(await run(t, "ipc-mutex", [ "exec", SECRET, "--", "true" ], { env }), 70, /native binary/)
        refused(await run(t, "withlock", [ "x", "--db", "", "--", "true" ], { env }), 70, /native binary/)
    })
})

test("--version names the program and its version", async (t) => {
    for (const [ name, ...args ] of [ [ "ipc-mutex", "--version" ], [ "ipc-mutex", "-v" ], [ "ipc-mutex", "exec", "-V" ],
        [ "ipc-mutex", "status", "-v" ], [ "withlock", "--version" ], [ "withlock", "-v" ], [ "pgmutex", "-V" ] ])
        assert.deepEqual(await run(t, name, args), { code: 0, signal: null, stdout: `${name} ${version}\n`, stderr: "" })
})

describe("wrong arguments end with code 64 and a line that says what would be right:", () => {
    const wrong = [
        [ [ "ipc-mutex" ], /expected exec or status/ ],
        [ [ "ipc-mutex", "frobnicate" ], /expected exec or status/ ],
        [ [ "ipc-mutex", SECRET, "--", "true" ], /expected exec or status/ ],
        [ [ "ipc-mutex", "--frob" ], /unknown option '--frob'/ ],
        [ [ "ipc-mutex", "exec" ], /--/ ],
        [ [ "ipc-mutex", "exec", "--", "true" ], /IPC_MUTEX_URL/ ],
        [ [ "ipc-mutex", "exec", SECRET, "true" ], /write -- before/ ],
        [ [ "ipc-mutex", "exec", SECRET, "--" ], /no command/ ],
        [ [ "ipc-mutex", "exec", SECRET, "again", "--", "true" ], /more than one/ ],
        [ [ "ipc-mutex", "exec", "--frob", SECRET, "--", "true" ], /unknown option '--frob'/ ],
        [ [ "ipc-mutex", "exec", "-w", "soon", SECRET, "--", "true" ], /number of seconds/ ],
        [ [ "ipc-mutex", "exec", "-w", "-1", SECRET, "--", "true" ], /-w/ ],
        [ [ "ipc-mutex", "exec", "--timeout", "--", "true" ], /timeout/ ],
        [ [ "ipc-mutex", "exec", "-E", "256", SECRET, "--", "true" ], /0 to 255/ ],
        [ [ "ipc-mutex", "exec", "-E", "x", SECRET, "--", "true" ], /0 to 255/ ],
        [ [ "ipc-mutex", "exec", "--grace", "5m", SECRET, "--", "true" ], /number of seconds/ ],
        [ [ "ipc-mutex", "exec", "--verbose=1", SECRET, "--", "true" ], /verbose/ ],
        [ [ "ipc-mutex", "exec", "-s", "-x", SECRET, "--", "true" ], /not both/ ],
        [ [ "ipc-mutex", "exec", "-n", "-w", "1", SECRET, "--", "true" ], /not both/ ],
        [ [ "ipc-mutex", "exec", "spm:foo", "--", "true" ], /rpm\+/ ],
        [ [ "ipc-mutex", "exec", "mpm:foo", "--", "true" ], /rpm\+/ ],
        [ [ "ipc-mutex", "exec", "rpm+mysql://x:hunter2@h/foo", "--", "true" ], /unknown implementation strategy "rpm\+mysql:\/\/x:\*\*\*@h\/foo"/ ],
        [ [ "ipc-mutex", "exec", "rpm+redis://x:hunter2@h", "--", "true" ], /missing pathname in URL/ ],
        [ [ "ipc-mutex", "exec", "rpm+redis://x:hunter2@h/foo?ttl=hunter2", "--", "true" ], /ttl/ ],
        [ [ "ipc-mutex", "status" ], /IPC_MUTEX_URL/ ],
        [ [ "ipc-mutex", "status", "spm:foo" ], /rpm\+/ ],
        [ [ "ipc-mutex", "status", SECRET, "--", "true" ], /runs no command/ ],
        [ [ "ipc-mutex", "status", SECRET, SECRET ], /more than one/ ],
        [ [ "ipc-mutex", "status", "--yaml", SECRET ], /unknown option '--yaml'/ ],
        [ [ "withlock" ], /no lock/ ],
        [ [ "withlock", "--db", "postgres://h/d", "--", "true" ], /no lock/ ],
        [ [ "withlock", "foo", "bar", "--db", "postgres://h/d", "--", "true" ], /more than one/ ],
        [ [ "withlock", "foo", "--db", "postgres://h/d", "--" ], /no command/ ],
        [ [ "withlock", "foo", "--db", "postgres://h/d" ], /no command/ ],
        [ [ "withlock", "foo", "--", "true" ], /PG_CONNECTION_STRING/ ],
        [ [ "withlock", "foo", "--db", "postgres://me:hunter2@h:port/d", "--", "true" ], /invalid connection string/ ],
        [ [ "withlock", "foo", "--db", "hunter2", "--", "true" ], /invalid connection string/ ],
        [ [ "withlock", "foo", "--db", "postgres://h/d?sslmode=hunter2", "--", "true" ], /sslmode must be one of/ ],
        [ [ "pgmutex" ], /no command/ ],
        [ [ "pgmutex", "--name", "x" ], /no command/ ],
        [ [ "pgmutex", "true" ], /PG_CONNECTION_STRING/ ],
        [ [ "pgmutex", "--frob", "true" ], /unknown option '--frob'/ ]
    ]
    for (const [ [ name, ...args ], pattern ] of wrong)
        test([ name, ...args ].join(" ").replaceAll("hunter2", "***"), async (t) => {
            refused(await run(t, name, args), 64, pattern)
        })
})

describe("a server that cannot be used ends with code 69 and a line that names it and no secret:", () => {
    const unavailable = [
        [ "ipc-mutex", [ "exec", SECRET, "--", "echo", "ran" ], {} ],
        [ "ipc-mutex", [ "exec", "-n", "--", "echo", "ran" ], { IPC_MUTEX_URL: SECRET } ],
        [ "ipc-mutex", [ "status", "--json" ], { IPC_MUTEX_URL: SECRET } ],
        [ "ipc-mutex", [ "status", "--watch", SECRET ], {} ],
        [ "withlock", [ "foo", "--", "echo", "ran" ], { PG_CONNECTION_STRING: "postgres://me:hunter2@127.0.0.1:1/d" } ],
        [ "withlock", [ "foo", "--db", "host=127.0.0.1 port=1 user=me password=hunter2", "--", "echo", "ran" ], {} ],
        [ "pgmutex", [ "--db", "postgres://127.0.0.1:1/d", "echo", "ran" ], { PGPASSWORD: "hunter2", PGUSER: "me" } ]
    ]
    for (const [ name, args, env ] of unavailable)
        test([ name, ...args ].join(" ").replaceAll("hunter2", "***"), async (t) => {
            refused(await run(t, name, args, { env }), 69, /127\.0\.0\.1:1/)
        })
})

test("output that nobody reads is no failure, one that cannot be written is", { skip: !existsSync("/dev/full") && "needs /dev/full" }, async (t) => {
    const into = (where) => [ "bash", "-c", `set -o pipefail; "$@" ${where}`, "bash" ]
    for (const args of [ [ "--help" ], [ "exec", "--version" ] ]) {
        const unread = await run(t, "ipc-mutex", args, { by: into("| true") })
        assert.deepEqual([ unread.code, unread.stderr ], [ 0, "" ])
        const full = await run(t, "ipc-mutex", args, { by: into("> /dev/full") })
        assert.deepEqual([ full.code, full.stderr ], [ 74, "ipc-mutex: cannot write to standard output: ENOSPC\n" ])
    }
})

test("an unknown parameter in a URL is a warning in one line", async (t) => {
    const { stderr } = await run(t, "ipc-mutex", [ "status", "rpm+redis://127.0.0.1:1/foo?frob=hunter2" ])
    assert.match(stderr, /^ipc-mutex: unknown parameter "frob" in a mutex URL is ignored\nipc-mutex: [^\n]*127\.0\.0\.1:1[^\n]*\n$/)
})
