import { after, describe, test } from "node:test"
import assert from "node:assert/strict"
import { copyFileSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, join } from "node:path"
import { strToKey } from "ipc-mutex/advisory-lock"
import { watchLeaks } from "../support/leaks.mjs"
import { noLeftovers, postgres } from "../pgsql/patient.mjs"
import { conString, session, waiters } from "../adapters/databases.mjs"
import { run, start } from "./programs.mjs"

watchLeaks()
const server = await postgres(after, { password: true, database: "app" })
const env = { PG_CONNECTION_STRING: conString(server) }
let count = 0
const freshName = () => `lock ${++count} of ${process.pid}`

describe("withlock", () => {
    test("runs the command while the advisory lock of that name is held", async (t) => {
        const sql = session(t, server)
        const name = freshName()
        const job = start(t, "withlock", [ name, "--", "sh", "-c", "echo in; exec sleep 100" ], { env })
        await job.says("in")
        assert.equal(await sql.tryLock(strToKey(name)), false)
        job.signal("SIGTERM")
        assert.equal((await job.end()).signal, "SIGTERM")
        assert.equal(await sql.tryLock(strToKey(name)), true)
    })

    test("takes the database from --db, before and behind the name, and passes arguments and exit code on", async (t) => {
        const db = conString(server)
        for (const args of [ [ "--db", db, freshName() ], [ freshName(), "--db", db ], [ freshName(), `--db=${db}` ] ]) {
            const { code, stdout, stderr } = await run(t, "withlock", [ ...args, "--", "sh", "-c", "echo \"$@\"; exit 6", "sh", "--db", "a b" ],
                { env: { PG_CONNECTION_STRING: "postgres://127.0.0.1:1/nowhere" } })
            assert.deepEqual({ code, stdout, stderr }, { code: 6, stdout: "--db a b\n", stderr: "" })
        }
    })

    test("takes what the connection string leaves open from the environment", async (t) => {
        const { host, port, user, password, database } = server
        const { code, stderr } = await run(t, "withlock", [ freshName(), "--db", "", "--", "sh", "-c", "exit 8" ],
            { env: { PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password, PGDATABASE: database, PGCONNECT_TIMEOUT: "30" } })
        assert.equal(code, 8, stderr)
    })

    test("waits while a session of plain SQL holds the lock", async (t) => {
        const sql = session(t, server)
        const name = freshName()
        await sql.lock(strToKey(name))
        const job = start(t, "withlock", [ name, "--", "echo", "in" ], { env })
        await waiters(server, 1)
        assert.equal(job.stdout, "")
        await sql.unlock(strToKey(name))
        const { code, stdout, stderr } = await job.end()
        assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: "in\n", stderr: "" })
    })

    test("lets one after the other in, and withlock and pgmutex are one", async (t) => {
        const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-withlock-"))
        t.after(() => rmSync(folder, { recursive: true }))
        const name = freshName()
        const critical = [ "sh", "-c", "mkdir inside && sleep 0.1 && rmdir inside" ]
        const jobs = [ [ "withlock", name, "--", ...critical ], [ "pgmutex", "--name", name, ...critical ], [ "withlock", name, "--", ...critical ] ]
        for (const { code, stderr } of await Promise.all(jobs.map(([ command, ...args ]) => run(t, command, args, { env, cwd: folder }))))
            assert.equal(code, 0, stderr)
    })

    test("ends the command when the connection is cut, and says so", async (t) => {
        const job = start(t, "withlock", [ freshName(), "--", "sh", "-c", "echo in; exec sleep 100" ], { env })
        await job.says("in")
        await server.admin.terminate()
        const { code, stderr } = await job.end()
        assert.equal(code, 75)
        // A command that gets no chance to end within five seconds is killed.
        assert.match(stderr, /^withlock: lock "lock%20\d+%20of%20\d+" was lost[^\n]*\n(withlock: the command has not ended[^\n]*\n)?$/)
    })

    test("ends with 127 for a missing command and 69 for a wrong password, without a secret", async (t) => {
        assert.equal((await run(t, "withlock", [ freshName(), "--", "no-such-command-anywhere" ], { env })).code, 127)
        const wrong = conString(server).replace(server.password, "hunter2")
        const { code, stderr } = await run(t, "withlock", [ freshName(), "--", "true" ], { env: { PG_CONNECTION_STRING: wrong } })
        assert.equal(code, 69)
        assert.match(stderr, /^withlock: [^\n]*refuses access[^\n]*\n$/)
        assert.doesNotMatch(stderr, /hunter2/)
    })
})

describe("pgmutex", () => {
    test("waits for the lock that is named after the command's path before it starts it", async (t) => {
        const sql = session(t, server)
        const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-pgmutex-"))
        t.after(() => rmSync(folder, { recursive: true }))
        const worker = join(folder, "worker")
        copyFileSync("/bin/sh", worker)
        for (const path of [ worker, "./worker" ]) {
            await sql.lock(strToKey(path))
            const job = start(t, "pgmutex", [ path, "-c", "echo in; exit 5" ], { env, cwd: folder })
            await waiters(server, 1)
            assert.equal(job.stdout, "")
            await sql.unlock(strToKey(path))
            const { code, stdout } = await job.end()
            assert.deepEqual({ code, stdout }, { code: 5, stdout: "in\n" })
        }
        assert.equal(basename(worker), "worker")
    })

    test("takes name and database from its options, and leaves the command's own alone", async (t) => {
        const sql = session(t, server)
        const name = freshName()
        const command = [ "sh", "-c", "echo \"$@\"; read line", "sh", "--db", "x", "--name", "y", "--help", "--" ]
        for (const dashes of [ [], [ "--" ] ]) {
            await sql.lock(strToKey(name))
            const job = start(t, "pgmutex", [ "--db", conString(server), `--name=${name}`, ...dashes, ...command ])
            await waiters(server, 1)
            await sql.unlock(strToKey(name))
            assert.equal((await job.end()).stdout, "--db x --name y --help --\n")
        }
    })

    test("passes signals on", async (t) => {
        const job = start(t, "pgmutex", [ "--name", freshName(), "sh", "-c", "trap 'echo got; exit 3' TERM; echo in; while :; do sleep 0.05; done" ], { env })
        await job.says("in")
        job.signal("SIGTERM")
        const { code, stdout } = await job.end()
        assert.deepEqual({ code, stdout }, { code: 3, stdout: "in\ngot\n" })
    })
})

test("nothing is left at the server", async () => {
    await noLeftovers(server)
})
