// The package in realms of their own, as a test runner gives one to each file of tests: modules are loaded anew there, the addon is not.
import { test } from "node:test"
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { main } from "../conformance/world.mjs"

/** Before Node.js 20 it is not seen that a child process comes to be: the first copy listens for a cluster's workers, and stays. */
const hasFirst = parseInt(process.versions.node) < 20

/** Gives a program `realm()`, the package loaded into a realm of its own, and `MAIN`, its path. */
const PRELUDE = `
    const vm = require("node:vm"), { createRequire } = require("node:module"), { readFileSync } = require("node:fs"), { dirname } = require("node:path")
    const MAIN = ${JSON.stringify(main)}
    function realm () {
        // A test runner's process is a copy of its own, with listeners of its own.
        const moduleLoadList = [ ...process.moduleLoadList ?? [] ]
        const own = { moduleLoadList, _events: {}, _eventsCount: 0 }
        const copy = Object.assign(Object.create(process, { moduleLoadList: { writable: true } }), own)
        const context = vm.createContext({
            process: copy, console, setTimeout, setImmediate, clearTimeout, queueMicrotask, performance, AbortController, AbortSignal,
            URL, URLSearchParams, Buffer
        })
        const loaded = new Map()
        const load = (path) => {
            if (loaded.has(path))
                return loaded.get(path).exports
            const module = { exports: {} }, real = createRequire(path)
            loaded.set(path, module)
            const find = (name) => {
                const found = real.resolve(name)
                return /^[/\\\\A-Z].*\\.js$/.test(found) ? load(found) : real(found)
            }
            const names = [ "module", "exports", "require", "__filename", "__dirname" ]
            const body = vm.compileFunction(readFileSync(path, "utf8"), names, { parsingContext: context, filename: path })
            body(module, module.exports, find, path, dirname(path))
            return module.exports
        }
        return { Mutex: load(MAIN), global: vm.runInContext("globalThis", context) }
    }
`

async function run (t, code, ...options) {
    const folder = mkdtempSync(join(tmpdir(), "ipc-mutex-realms-"))
    t.after(() => rmSync(folder, { recursive: true }))
    const file = join(folder, "program.cjs")
    writeFileSync(file, `${PRELUDE}\n(async () => { ${code} })()`)
    const env = { ...process.env, NODE_TEST_CONTEXT: undefined }
    const { stdout } = await promisify(execFile)(process.execPath, [ ...options, file ], { env, timeout: 120_000 })
    return stdout.trim().split("\n")
}

/** A worker that tries the lock, and exits with what it got. */
const WORKER = `
    const mutex = new (require(MAIN))("mpm:x")
    await mutex.open()
    process.exit(await mutex.tryAcquire() ? 1 : 0)
`

const USES = {
    loaded: "",
    "spm:": "await use('spm:x')",
    "mpm:": "await use('mpm:x'); await use('mpm:x')",
    "several mpm:": "await Promise.all([ use('mpm:x'), use('mpm:x'), use('mpm:y') ])",
    detectDeadlocks: "await use('spm:x', () => {}, { detectDeadlocks: true })",
    LockManager: "for (const url of [ 'spm:', 'mpm:' ]) { const locks = new Mutex.LockManager(url); await locks.withLock('a', () => {}); await locks.close() }",
    "mpm: with listeners": "await use('mpm:x', (mutex) => { mutex.on('lost', () => {}) })"
}

test("a realm is collected once its mutexes are closed, the first one too", async (t) => {
    for (const before of [ "", "require('node:cluster')" ])
        for (const [ name, uses ] of Object.entries(USES)) {
            const printed = await run(t, `
                ${before}
                const seen = []
                for (let round = 0; round < 5; round++)
                    await (async () => {
                        const { Mutex, global } = realm()
                        const use = async (url, begin = () => {}, options = undefined) => {
                            const mutex = new Mutex(url, options)
                            begin(mutex)
                            await mutex.open()
                            await mutex.withLock(() => {})
                            await mutex.acquire()
                            await mutex.close()
                        }
                        ${uses}
                        seen.push(new WeakRef(global))
                    })()
                // The last one may still be on the stack.
                const living = () => seen.slice(${hasFirst ? 1 : 0}, -1).filter((each) => each.deref() !== undefined).length
                for (let tries = 0; tries < 300 && living() > 0; tries++) {
                    await new Promise((resolve) => setTimeout(resolve, 10))
                    gc()
                }
                console.log(living())`, "--expose-gc")
            assert.deepEqual(printed, [ "0" ], `${name}, ${before}`)
        }
})

test("workers are served by a realm, and by the program's own copy that was loaded before or after one", async (t) => {
    const programs = [
        "const { Mutex } = realm()",
        "const Mutex = (realm(), require(MAIN))",
        "const Mutex = (require(MAIN), realm().Mutex)",
        "const Mutex = (realm(), realm(), realm().Mutex)",
        "let { Mutex } = realm(); { const mutex = new Mutex('mpm:x'); await mutex.open(); await mutex.close() }"
    ]
    for (const program of programs)
        for (const before of [ "", "require('node:cluster');" ]) {
            const printed = await run(t, `
                if (process.env.IS_WORKER) { ${WORKER} }
                ${before} ${program}
                const cluster = require("node:cluster")
                const fork = () => new Promise((resolve) => cluster.fork({ IS_WORKER: "yes" }).on("exit", resolve))
                console.log(await fork())
                const mutex = new Mutex("mpm:x")
                await mutex.open()
                await mutex.acquire()
                console.log(await fork())
                await mutex.close()
                console.log(await fork())`)
            assert.deepEqual(printed, [ "1", "0", "1" ], before + program)
        }
})

test("what is held at servers is given back at the exit of the process, not of a realm's copy of it, and once", async (t) => {
    const printed = await run(t, `
        for (let each = 0; each < 2; each++) {
            const { Mutex } = realm()
            const mutex = new Mutex("spm:x")
            await mutex.open()
            await mutex.close()
            console.log(process.listenerCount("exit"))
        }`)
    assert.deepEqual(printed, [ "1", "1" ])
})

test("a realm that was thrown away leaves its place to the next copy", { skip: hasFirst }, async (t) => {
    const printed = await run(t, `
        if (process.env.IS_WORKER) { ${WORKER} }
        const ref = (() => new WeakRef(realm().global))()
        const Mutex = require(MAIN)
        realm()
        for (let tries = 0; tries < 300 && ref.deref() !== undefined; tries++) {
            await new Promise((resolve) => setTimeout(resolve, 10))
            gc()
        }
        console.log(ref.deref() === undefined)
        await new Promise((resolve) => require("node:child_process").exec("exit 0", resolve))
        require("node:cluster").fork({ IS_WORKER: "yes" }).on("exit", (code) => console.log(code))`, "--expose-gc")
    assert.deepEqual(printed, [ "true", "1" ])
})
