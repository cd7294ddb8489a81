// ipc-mutex/proper-lockfile, beside the package whose API it has.
import { test, describe } from "node:test"
import assert from "node:assert/strict"
import { createHash } from "node:crypto"
import { once } from "node:events"
import { createRequire } from "node:module"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, renameSync, rmSync, rmdirSync, statSync, symlinkSync, utimesSync,
    writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { Worker } from "node:worker_threads"
import lockfile from "ipc-mutex/proper-lockfile"
import { startChild } from "../support/children.mjs"
import { watchLeaks } from "../support/leaks.mjs"
import { waitFor } from "../support/waiting.mjs"

watchLeaks()

const require = createRequire(import.meta.url)
const OURS = "ipc-mutex/proper-lockfile", ORIGINAL = "proper-lockfile"
const original = require(ORIGINAL)
const native = require("../../lib/native.js"), port = require("../../lib/port.js")
const HOUR = 3_600_000
const onLinux = { skip: process.platform !== "linux" && "the table of the machine exists on Linux only" }

const holderProgram = new URL("lock-file-holder.mjs", import.meta.url).pathname
const writerProgram = new URL("lock-file-writer.mjs", import.meta.url).pathname

/** A file of its own, and the folder that stands for its lock. */
function place (t) {
    const parent = realpathSync(mkdtempSync(join(tmpdir(), "ipc-mutex-lock-file-")))
    t.after(() => rmSync(parent, { recursive: true, force: true }))
    const file = join(parent, "data.json")
    writeFileSync(file, "0")
    return { parent, file, folder: `${file}.lock` }
}

async function holder (t, name, file, options = {}) {
    const child = await startChild(t, holderProgram, [ name, file, JSON.stringify(options) ])
    await child.message("held")
    return child
}

/** What stands about a folder in the table of the machine, and where the note is. */
function lookAt (t, folder) {
    const hash = createHash("sha256").update(folder).digest("hex")
    const { handle } = native.machineOpen(port.enter(), `lpm:file-${hash}`, "test")
    t.after(() => {
        native.machineClose(handle)
        port.leave()
    })
    return {
        note: join(dirname(native.machinePath(handle)), "files", hash),
        waiters: () => JSON.parse(native.machineSnapshot(handle)).pending.length
    }
}

const code = (expected) => (error) => error instanceof Error && error.code === expected

describe("the API", () => {
    test("lock, unlock, check and their synchronous forms", async (t) => {
        const { file, folder } = place(t)
        assert.equal(await lockfile.check(file), false)
        const release = await lockfile.lock(file)
        assert.ok(statSync(folder).isDirectory())
        await assert.rejects(lockfile(file), (error) => error.code === "ELOCKED" && error.file === file && error.message === "Lock file is already being held")
        assert.throws(() => lockfile.lockSync(file), code("ELOCKED"))
        assert.deepEqual([ await lockfile.check(file), lockfile.checkSync(file) ], [ true, true ])
        await release()
        assert.equal(existsSync(folder), false)
        await assert.rejects(release(), code("ERELEASED"))
        await assert.rejects(lockfile.unlock(file), code("ENOTACQUIRED"))

        const releaseSync = lockfile.lockSync(file)
        await assert.rejects(lockfile.lock(file), code("ELOCKED"))
        releaseSync()
        assert.throws(releaseSync, code("ERELEASED"))
        lockfile.lockSync(file)
        lockfile.unlockSync(file)
        assert.throws(() => lockfile.unlockSync(file), code("ENOTACQUIRED"))
        assert.equal(lockfile.checkSync(file), false)
        assert.throws(() => lockfile.lockSync(file, { retries: 1 }), code("ESYNC"))
    })

    test("links are followed, unless realpath is false; lockfilePath names another folder", async (t) => {
        const { parent, file } = place(t)
        const link = join(parent, "link")
        symlinkSync(file, link)
        const release = await lockfile.lock(link)
        assert.ok(existsSync(`${file}.lock`))
        await assert.rejects(lockfile.lock(file), code("ELOCKED"))
        const other = await lockfile.lock(link, { realpath: false })
        await Promise.all([ release(), other() ])
        await assert.rejects(lockfile.lock(join(parent, "none")), code("ENOENT"))
        const named = { realpath: false, lockfilePath: join(parent, "named") }
        await lockfile.lock(join(parent, "none"), named)
        assert.ok(existsSync(named.lockfilePath))
        await lockfile.unlock(join(parent, "none"), named)
        assert.equal(existsSync(named.lockfilePath), false)
    })

    test("a lock is told once as lost, and then another can be taken", async (t) => {
        const { parent, file, folder } = place(t)
        const losses = []
        // A lock alone does not keep a process alive.
        const work = setInterval(() => {}, HOUR)
        t.after(() => clearInterval(work))
        for (const lose of [
            () => rmdirSync(folder),
            () => utimesSync(folder, 1, 1),
            () => {
                mkdirSync(join(parent, "new"))
                renameSync(join(parent, "new"), folder)
            }
        ]) {
            const lost = new Promise((resolve) => {
                lockfile.lockSync(file, { update: 1000, onCompromised: (error) => { losses.push(error.code); resolve() } })
            })
            lose()
            await lost
            await assert.rejects(lockfile.unlock(file), code("ENOTACQUIRED"))
            rmSync(folder, { recursive: true, force: true })
        }
        assert.deepEqual(losses, [ "ECOMPROMISED", "ECOMPROMISED", "ECOMPROMISED" ])
    })

    test("nobody has to catch the loss of a lock: by default it is an uncaught error", async (t) => {
        const { file, folder } = place(t)
        const child = await holder(t, OURS, file, { update: 1000 })
        rmdirSync(folder)
        const { code: status } = await child.exited
        assert.notEqual(status, 0)
        assert.match(child.stderr, /ENOENT[^]*ECOMPROMISED/)
    })
})

describe("beside the original", () => {
    for (const [ first, second ] of [ [ OURS, ORIGINAL ], [ ORIGINAL, OURS ] ])
        test(`what ${first} holds is taken for ${second}, until it is released`, async (t) => {
            const { file } = place(t)
            const other = require(second)
            const child = await holder(t, first, file)
            await assert.rejects(other.lock(file), code("ELOCKED"))
            assert.throws(() => other.lockSync(file), code("ELOCKED"))
            assert.equal(await other.check(file), true)
            child.send("release")
            await child.message("done")
            assert.equal(await other.check(file), false)
            const release = await other.lock(file)
            child.send("lock")
            assert.equal((await child.message("failed")).code, "ELOCKED")
            await release()
        })

    test("a folder of the original that is old counts as abandoned, a fresh one does not", async (t) => {
        const { file, folder } = place(t)
        mkdirSync(folder)
        await assert.rejects(lockfile.lock(file), code("ELOCKED"))
        const old = new Date(Date.now() - 60_000)
        utimesSync(folder, old, old)
        assert.equal(await lockfile.check(file), false)
        const release = await lockfile.lock(file)
        assert.equal(await original.check(file), true)
        await release()
    })

    test("no update is lost between processes of both", async (t) => {
        const { file } = place(t)
        const writers = await Promise.all([ OURS, ORIGINAL, OURS, ORIGINAL ].map((name) => startChild(t, writerProgram, [ name, file, "30" ])))
        for (const writer of writers) {
            await writer.message("done")
            assert.deepEqual([ (await writer.exited).code, writer.stderr ], [ 0, "" ])
        }
        assert.equal(readFileSync(file, "utf8"), "120")
    })
})

describe("what the original cannot do", () => {
    test("the lock of a killed process is free at once", onLinux, async (t) => {
        const { file, folder } = place(t)
        const child = await holder(t, OURS, file, { stale: HOUR })
        const waiting = lockfile.lock(file, { stale: HOUR, retries: { retries: 1, minTimeout: HOUR } })
        await child.kill("SIGKILL")
        const release = await waiting
        assert.ok(existsSync(folder))
        await release()

        const next = await holder(t, OURS, file, { stale: HOUR })
        await next.kill("SIGKILL")
        assert.ok(existsSync(folder))
        assert.deepEqual([ await lockfile.check(file, { stale: HOUR }), lockfile.checkSync(file, { stale: HOUR }) ], [ false, false ])
        const releaseSync = lockfile.lockSync(file, { stale: HOUR })
        releaseSync()
    })

    test("a folder that a killed process did not make is not taken for its own", onLinux, async (t) => {
        const { file, folder } = place(t)
        const child = await holder(t, OURS, file, { stale: HOUR })
        await child.kill("SIGKILL")
        rmdirSync(folder)
        mkdirSync(folder)
        assert.equal(await lockfile.check(file, { stale: HOUR }), true)
        await assert.rejects(lockfile.lock(file, { stale: HOUR }), code("ELOCKED"))
        rmdirSync(folder)
    })

    test("a note about holders of another table says nothing", onLinux, async (t) => {
        const { file, folder } = place(t)
        const child = await holder(t, OURS, file, { stale: HOUR })
        const note = lookAt(t, folder).note
        const text = readFileSync(note, "utf8")
        await child.kill("SIGKILL")
        writeFileSync(note, text.replace(/^\d+ \d+/, "1 1"))
        assert.equal(await lockfile.check(file, { stale: HOUR }), true)
        await assert.rejects(lockfile.lock(file, { stale: HOUR }), code("ELOCKED"))
        writeFileSync(note, text)
        assert.equal(await lockfile.check(file, { stale: HOUR }), false)
        const release = await lockfile.lock(file, { stale: HOUR })
        await release()
        assert.equal(existsSync(note), false)
    })

    test("a release ends the pause of whoever waits, in order", onLinux, async (t) => {
        const { file, folder } = place(t)
        const child = await holder(t, OURS, file)
        const { waiters } = lookAt(t, folder)
        const order = [], waiting = []
        for (const number of [ 1, 2, 3 ]) {
            waiting.push(lockfile.lock(file, { retries: { retries: 1, minTimeout: HOUR } }).then((release) => {
                order.push(number)
                return release()
            }))
            await waitFor(() => waiters() === number, { what: `${number} to wait` })
        }
        child.send("release")
        await Promise.all(waiting)
        assert.deepEqual(order, [ 1, 2, 3 ])
    })

    test("a busy event loop does not cost the lock", onLinux, async (t) => {
        const { file, folder } = place(t)
        const child = await holder(t, OURS, file, { stale: 2000, update: 1000 })
        child.send("block")
        await child.message("blocked")
        let last = statSync(folder).mtimeMs
        for (let update = 0; update < 3; update++) {
            await waitFor(() => statSync(folder).mtimeMs > last, { what: "the folder to be marked as alive" })
            last = statSync(folder).mtimeMs
        }
        await assert.rejects(lockfile.lock(file, { stale: HOUR }), code("ELOCKED"))
    })

    test("a thread that is terminated leaves no folder", onLinux, async (t) => {
        const { file, folder } = place(t)
        const worker = new Worker(`
            const { parentPort, workerData } = require("node:worker_threads")
            require(workerData.path).lockSync(workerData.file)
            parentPort.postMessage("held")
            setInterval(() => {}, 1e6)`, { eval: true, workerData: { path: require.resolve(OURS), file } })
        await once(worker, "message")
        assert.throws(() => lockfile.lockSync(file), code("ELOCKED"))
        await worker.terminate()
        assert.equal(existsSync(folder), false)
        lockfile.lockSync(file)()
    })
})
