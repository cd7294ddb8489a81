// What the command starts: who gets signals, how long the lock is held, and what ends with it. Beside flock(1) where that does the same.
import { after, describe, test } from "node:test"
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, dirname, join } from "node:path"
import Mutex from "ipc-mutex"
import { watchLeaks } from "../support/leaks.mjs"
import { noLeftovers, redis } from "../support/servers.mjs"
import { alive } from "../support/processes.mjs"
import { waitFor } from "../support/waiting.mjs"
import { PATIENT, run, start } from "./programs.mjs"

const skip = process.platform === "linux" ? false : "for Linux, where all descendants are known"

watchLeaks()
const server = await redis(after, { password: true })
let count = 0
const freshUrl = (options = PATIENT) => server.url(`group-${++count}`, options)
const shell = (code) => [ "--", "sh", "-c", code ]
const patient = (what) => ({ timeout: 60_000, what })

/** A folder for the test, with programs in it: `worker` says that it works, with its process id, and does so until it is ended. */
function place (t) {
    const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-group-"))
    t.after(() => rmSync(folder, { recursive: true, force: true }))
    const bin = join(folder, "node_modules", ".bin")
    mkdirSync(bin, { recursive: true })
    writeFileSync(join(bin, "worker"), "#!/bin/sh\necho works $$ >>works; echo works $$\nwhile :; do sleep 1; done\n")
    chmodSync(join(bin, "worker"), 0o755)
    writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "x", version: "1.0.0", scripts: { work: "worker; worker" } }))
    return {
        cwd: folder,
        env: {
            PATH: [ bin, dirname(process.execPath), process.env.PATH ].join(delimiter), npm_config_offline: "true", npm_config_cache: join(folder, "cache"),
            npm_config_update_notifier: "false"
        },
        /** The process ids of all workers that have started so far. */
        workers: () => existsSync(join(folder, "works")) ? readFileSync(join(folder, "works"), "utf8").match(/\d+/g).map(Number) : []
    }
}

/** Commands with their workers not as direct children, and how many work at the same time. */
const COMMANDS = {
    "npm run": { command: [ "--", "npm", "run", "work" ], number: 1 },
    npx: { command: [ "--", "npx", "worker" ], number: 1 },
    "sh -c 'a; b'": { command: shell("worker; worker"), number: 1 },
    "sh -c 'a & b'": { command: shell("worker & worker"), number: 2 },
    "sh -c '(a &); b'": { command: shell("(worker &); worker"), number: 2 }
}

describe("no descendant works on", { skip }, () => {
    for (const [ name, { command, number } ] of Object.entries(COMMANDS)) {
        test(`after SIGTERM, which the group gets: ${name}`, async (t) => {
            const { cwd, env, workers } = place(t)
            const job = start(t, "ipc-mutex", [ "exec", freshUrl(), ...command ], { cwd, env })
            await waitFor(() => workers().length === number, patient("the workers"))
            job.signal("SIGTERM")
            await job.end()
            assert.equal(workers().length, number)
            assert.deepEqual(workers().filter(alive), [])
        })

        test(`after the loss of the lock: ${name}`, async (t) => {
            const { cwd, env, workers } = place(t)
            const job = start(t, "ipc-mutex", [ "exec", "--grace", "1000", freshUrl({ ...PATIENT, ttl: 7 }), ...command ], { cwd, env })
            await waitFor(() => workers().length === number, patient("the workers"))
            await steal(t)
            assert.equal((await job.end()).code, 75)
            assert.equal(workers().length, number)
            assert.deepEqual(workers().filter(alive), [])
        })
    }

    test("after the loss of the lock: neither what left the group, nor what stands still, nor what does not listen", async (t) => {
        const { cwd, env, workers } = place(t)
        const command = shell("timeout 1000 worker & setsid worker & (trap '' TERM; exec worker) & worker & kill -STOP $!; " +
            "sh -c 'trap \"\" TERM; setsid worker & exit'; wait")
        const job = start(t, "ipc-mutex", [ "exec", "--grace", "0.5", freshUrl({ ...PATIENT, ttl: 7 }), ...command ], { cwd, env })
        // The one that is stopped may not have come so far as to say that it works.
        await waitFor(() => workers().length >= 4, patient("the workers"))
        await steal(t)
        const { code, stderr } = await job.end()
        assert.equal(code, 75)
        assert.match(stderr, /is killed/)
        assert.deepEqual(workers().filter(alive), [])
    })
})

test("each process of the group gets each signal once", { skip }, async (t) => {
    const names = [ "SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGWINCH", "SIGIO", "SIGUSR1" ]
    const { cwd } = place(t)
    writeFileSync(join(cwd, "counter.js"), `
        for (const name of ${JSON.stringify(names)})
            process.on(name, () => console.log(name))
        process.on("SIGUSR2", () => process.exit())
        console.log("ready")
        setInterval(() => {}, 1000)`)
    const trap = `trap '' ${names.map((name) => name.slice(3)).join(" ")} USR2; `
    const job = start(t, "ipc-mutex", [ "exec", freshUrl(), ...shell(`${trap} node counter.js & node counter.js; wait`) ], { cwd })
    const said = (text) => waitFor(() => job.stdout.split(text).length === 3, patient(`${text} by both`))
    await said("ready")
    for (const name of names) {
        job.signal(name)
        await said(name)
    }
    // They have heard of all others before they hear of this one.
    job.signal("SIGUSR2")
    const { code, stdout } = await job.end()
    assert.equal(code, 0)
    assert.deepEqual(stdout.trim().split("\n").sort(), [ "ready", ...names ].flatMap((name) => [ name, name ]).sort())
})

test("a command is told to end when this program is killed", { skip }, async (t) => {
    const code = "trap 'echo told; exit' TERM; echo ready; while :; do sleep 0.05; done"
    const job = start(t, "ipc-mutex", [ "exec", freshUrl({ ...PATIENT, ttl: 7 }), ...shell(code) ])
    await job.says("ready")
    job.signal("SIGKILL")
    await job.says("told")
    await job.end()
})

/** Gives the latest lock to somebody else, for the rest of the test. */
async function steal (t) {
    const stolen = `group-${count}/lock.IPC-Mutex-rpm`
    t.after(() => server.admin.command("DEL", stolen))
    await server.admin.command("SET", stolen, "1234567890123", "PX", "120000")
}

/** Programs that go on after the command, until there is a file `end` or the test's folder is gone. */
const LOOP = "while [ ! -e end ] && [ -e package.json ]; do sleep 0.05; done >/dev/null 2>&1"
const LEFT_BEHIND = {
    "in the background": `${LOOP} &`,
    "of a subshell": `(${LOOP} &);`,
    "in a group of its own": `timeout 1000 sh -c '${LOOP}' &`,
    "in a session of its own": `setsid sh -c '${LOOP}' &`,
    "in a session of its own, without a parent": `(setsid sh -c '${LOOP}' &) &`,
    "without anything that tells where it comes from": `(env -i PATH="$PATH" setsid sh -c '${LOOP}' &) &`
}

describe("the lock is held until the last process has ended, as with flock:", { skip }, () => {
    for (const [ name, code ] of Object.entries(LEFT_BEHIND))
        test(`one ${name}`, async (t) => {
            const { cwd } = place(t)
            const command = `${code} echo left; exit 3`
            const url = freshUrl()
            const mutex = new Mutex(url)
            await mutex.open()
            t.after(() => mutex.close())
            const job = start(t, "ipc-mutex", [ "exec", url, ...shell(command) ], { cwd })
            await job.says("left")
            await flock([ "lock", "sh", "-c", command ], cwd)
            assert.equal(await mutex.tryAcquire(), false)
            assert.equal(await flock([ "-n", "lock", "true" ], cwd), 1)
            writeFileSync(join(cwd, "end"), "")
            assert.equal((await job.end()).code, 3)
            assert.equal(await mutex.tryAcquire(), true)
            await waitFor(async () => await flock([ "-n", "lock", "true" ], cwd) === 0, patient("flock's lock to be free"))
        })

    for (const option of [ "-o", "--close" ])
        test(`but with ${option} only until the command has`, async (t) => {
            const { cwd } = place(t)
            const command = `${LOOP} & echo $!; exit 3`
            const url = freshUrl()
            const { code, stdout } = await run(t, "ipc-mutex", [ "exec", option, url, ...shell(command) ], { cwd })
            assert.equal(code, 3)
            assert.equal(alive(Number(stdout)), true)
            assert.equal((await run(t, "ipc-mutex", [ "exec", "-n", url, "--", "true" ])).code, 0)
            assert.equal(await flock([ option, "lock", "sh", "-c", command ], cwd), 3)
            assert.equal(await flock([ "-n", "lock", "true" ], cwd), 0)
            writeFileSync(join(cwd, "end"), "")
            await waitFor(() => !alive(Number(stdout)), patient("the process to end"))
        })

    test("but not for children that this program had before", async (t) => {
        const { cwd } = place(t)
        const by = [ "sh", "-c", `${LOOP} & (${LOOP} &) ; exec "$@"`, "sh" ]
        assert.equal((await run(t, "ipc-mutex", [ "exec", freshUrl(), ...shell("exit 3") ], { by, cwd })).code, 3)
        writeFileSync(join(cwd, "end"), "")
    })

    test("and what is left can be ended by a signal", async (t) => {
        const { cwd } = place(t)
        for (const code of Object.values(LEFT_BEHIND)) {
            const job = start(t, "ipc-mutex", [ "exec", freshUrl(), ...shell(`${code} echo $$; exit 3`) ], { cwd })
            await job.says("\n")
            await waitFor(() => !alive(Number(job.stdout)), patient("the command to end"))
            job.signal("SIGTERM")
            assert.equal((await job.end()).code, 3)
        }
    })
})

/** The exit code of flock(1). */
function flock (args, cwd) {
    return new Promise((resolve, reject) => {
        spawn("flock", args, { cwd, stdio: "ignore" }).once("exit", resolve).once("error", reject)
    })
}

test("nothing is left at the server", async () => {
    await noLeftovers(server, { timeout: 18_000 })
})
