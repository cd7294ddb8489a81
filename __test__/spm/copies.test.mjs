// The package twice in one process, in two folders or two module registries.
import { after, before, test } from "node:test"
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { createRequire } from "node:module"
import { cpSync, mkdtempSync, readFileSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

const root = fileURLToPath(new URL("../../", import.meta.url))
const addon = process.env.IPC_MUTEX_NATIVE ?? join(root, readdirSync(root).find((name) => /^ipc-mutex\..*\.node$/.test(name)))
const { version } = createRequire(import.meta.url)("../../package.json")
const isUnix = process.platform !== "win32"

let folder

before(() => { folder = realpathSync(mkdtempSync(join(tmpdir(), "ipc-mutex-copies-"))) })
after(() => rmSync(folder, { recursive: true }))

/** A copy of the package with an addon of its own, and its path. */
function copy (name, change = (bytes) => bytes) {
    const path = join(folder, name)
    for (const each of [ "index.js", "package.json", "lib" ])
        cpSync(join(root, each), join(path, each), { recursive: true })
    writeFileSync(join(path, basename(addon)), change(readFileSync(addon)))
    return join(path, "index.js")
}

/** Runs code in a process of its own, with the paths of the copies as `A` and `B`; gives what it printed. */
async function run (code, a, b, ...options) {
    const program = `const A = ${JSON.stringify(a)}, B = ${JSON.stringify(b)};\n(async () => { ${code} })()`
    const env = { ...process.env, NODE_TEST_CONTEXT: undefined, IPC_MUTEX_NATIVE: undefined, NODE_OPTIONS: undefined }
    const file = join(folder, "program.cjs")
    writeFileSync(file, program)
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [ ...options, file ], { env })
    return { printed: stdout.trim(), warned: stderr.trim() }
}

test("two copies of one version have one lock table, in every thread, whichever was loaded first", { skip: !isUnix }, async () => {
    const a = copy("a"), b = copy("b")
    for (const model of [ "spm", "mpm" ]) {
        const { printed } = await run(`
            const { Worker } = require("node:worker_threads")
            const one = new (require(A))("${model}:x"), two = new (require(B))("${model}:x")
            await one.open(); await two.open()
            const hold = await one.lock()
            console.log(await two.tryAcquire())
            const worker = new Worker(\`
                const { parentPort } = require("node:worker_threads")
                const three = new (require(\${JSON.stringify(B)}))("${model}:x")
                three.open().then(() => three.tryAcquire()).then(async (got) => {
                    parentPort.postMessage(got)
                    await three.acquire()
                    parentPort.postMessage("granted")
                    await three.close()
                })\`, { eval: true })
            const said = () => new Promise((resolve) => worker.once("message", resolve))
            console.log(await said())
            const granted = said()
            while ((await one.query()).pending.length === 0) await new Promise(setImmediate)
            await hold.release()
            console.log(await granted)
            await one.close(); await two.close()`, a, b)
        assert.equal(printed, "false\nfalse\ngranted", model)
    }
})

/** Like a copy, with an addon of another version. */
const otherVersion = (name) => copy(name, (bytes) => {
    const other = version.replace(/.$/, (last) => last === "9" ? "8" : "9")
    return Buffer.from(bytes.toString("latin1").replaceAll(version, other), "latin1")
})

test("of two versions in a cluster's primary, one serves the workers", { skip: !isUnix }, async () => {
    const a = copy("first"), b = otherVersion("second")
    for (const load of [ "", "require('node:cluster')" ]) {
        const { printed } = await run(`
            ${load}
            if (process.env.COPY !== undefined) {
                const mutex = new (require(process.env.COPY))("mpm:x")
                await mutex.open()
                await mutex.lock({ timeout: 300 }).then(() => console.log("granted"), ({ code }) => console.log(code))
                return process.exit()
            }
            const one = new (require(A))("mpm:x")
            require(B)
            await one.open(); await one.acquire()
            for (const COPY of [ A, B ])
                await new Promise((resolve) => require("node:cluster").fork({ COPY }).on("exit", resolve))
            await one.close()`, a, b)
        assert.equal(printed, "ERR_TIMEOUT\nERR_TIMEOUT")
    }
})

test("a copy of another version says so at load and refuses what would not exclude", { skip: !isUnix }, async () => {
    const a = copy("old"), b = otherVersion("new")
    const { printed, warned } = await run(`
        const One = require(A), Two = require(B)
        const one = new One("spm:x")
        await one.open(); await one.acquire()
        for (const model of [ "spm", "mpm" ])
            await new Two(model + ":x").open().catch(({ code, message }) => console.log(code, message))
        await one.close()`, a, b)
    const lines = printed.split("\n")
    assert.equal(lines.length, 2)
    for (const line of lines)
        assert.ok(line.startsWith("ERR_SERVER this process has loaded another version of ipc-mutex from "), line)
    assert.match(warned, /refuses spm: and mpm: locks: this process has loaded another version of ipc-mutex from .*; install one version only/)
})

test("a module registry that is thrown away leaves no listener behind, and is collected once its mutexes are closed", async () => {
    const { printed, warned } = await run(`
        const seen = []
        for (let round = 0; round < 15; round++) {
            for (const key of Object.keys(require.cache))
                if (!key.endsWith(".node")) delete require.cache[key]
            await (async () => {
                const Mutex = require(A)
                const mutex = new Mutex("spm:x")
                await mutex.open()
                await mutex.withLock(() => {})
                await mutex.close()
                seen.push(new WeakRef(Mutex))
            })()
            // Node.js itself remembers who required what.
            module.children.length = 0
        }
        console.log(process.listenerCount("exit"))
        // Before Node.js 20 the first one stays, and listens for a cluster's workers.
        const living = () => seen.slice(parseInt(process.versions.node) < 20 ? 1 : 0, -1).filter((each) => each.deref() !== undefined).length
        for (let tries = 0; tries < 200 && living() > 0; tries++) {
            await new Promise((resolve) => setTimeout(resolve, 10))
            gc()
        }
        console.log(living())`, join(root, "index.js"), "", "--expose-gc")
    assert.equal(printed, "1\n0")
    assert.equal(warned, "")
})
