// The memory that a primary lends, as seen by other processes of the same user: none of them can end those who use it, and nothing else is taken for it.
import { test, describe, before, after } from "node:test"
import assert from "node:assert/strict"
import { createRequire } from "node:module"
import { execFileSync } from "node:child_process"
import { Socket } from "node:net"
import { closeSync, constants, ftruncateSync, mkdtempSync, openSync, readFileSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { tmpdir } from "node:os"
import { watchLeaks } from "../support/leaks.mjs"
import { startPrimary } from "./stage.mjs"

watchLeaks()

const native = createRequire(import.meta.url)("../../lib/native.js")
/** Not among Node's constants. */
const O_PATH = 0o10000000

/** The number of the lent memory's file in a process. */
const fileOf = (pid) => readdirSync(`/proc/${pid}/fd`).find((each) => readlinkSync(`/proc/${pid}/fd/${each}`).startsWith("/memfd:ipc-mutex"))

describe("lent memory", { skip: process.platform !== "linux" && "no memory is lent here" }, () => {
    let folder, pid, file, secret

    before(() => {
        folder = mkdtempSync(join(tmpdir(), "lending-"))
        const env = native.attach(() => {}, 0, "host");
        [ pid, file, ...secret ] = native.clusterLend(native.clusterOwner(env))
        secret.length = 2
    })
    after(() => rmSync(folder, { recursive: true }))

    test("nobody can change its length", async (t) => {
        const primary = await startPrimary(t)
        const worker = await primary.fork()
        await worker.do("open", "m", "mpm:lock")
        const descriptor = openSync(`/proc/${primary.pid}/fd/${fileOf(primary.pid)}`, "r+")
        t.after(() => closeSync(descriptor))
        for (const length of [ 0, 2 ** 30 ])
            assert.throws(() => ftruncateSync(descriptor, length), { code: "EPERM" })
        assert.equal(await worker.do("pairs", "m", 100), 0)
    })

    test("it is borrowed by its numbers, and by no others", () => {
        assert.ok(native.clusterBorrow(pid, file, ...secret) instanceof ArrayBuffer)
        assert.equal(native.clusterBorrow(pid, file, secret[0] ^ 1, secret[1]), undefined)
        assert.equal(native.clusterBorrow(pid, file, secret[0], secret[1] ^ 1), undefined)
        assert.equal(native.clusterBorrow(pid, 0xfffff, ...secret), undefined)
        assert.equal(native.clusterBorrow(0x7fffffff, file, ...secret), undefined)
    })

    test("a file that looks like it but is not sealed is left alone", (t) => {
        const path = join(folder, "like")
        writeFileSync(path, readFileSync(`/proc/${pid}/fd/${file}`))
        const descriptor = openSync(path, "r+")
        t.after(() => closeSync(descriptor))
        assert.equal(native.clusterBorrow(process.pid, descriptor, ...secret), undefined)
    })

    test("what is no file at all is not even opened", async (t) => {
        const path = join(folder, "pipe")
        execFileSync("mkfifo", [ path ])
        const reader = new Socket({ fd: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), readable: true, writable: false })
        const seen = openSync(path, O_PATH)
        t.after(() => {
            reader.destroy()
            closeSync(seen)
        })
        // The end comes when one who could write has been there and gone.
        let ended = false
        const end = new Promise((resolve) => reader.once("end", resolve)).then(() => { ended = true })
        reader.resume()
        assert.equal(native.clusterBorrow(process.pid, seen, ...secret), undefined)
        for (let turn = 0; turn < 5; turn++)
            await new Promise(setImmediate)
        assert.equal(ended, false)
        closeSync(openSync(path, "r+"))
        await end
    })
})
