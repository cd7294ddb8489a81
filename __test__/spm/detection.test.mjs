// What the option detectDeadlocks costs a program that does not use it any more.
import { test } from "node:test"
import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { main } from "../conformance/world.mjs"

/** Runs code in a process of its own, where `hooks()` tells how many hooks follow each promise; gives what it printed. */
async function run (code) {
    const program = `
        const asyncHooks = require("node:async_hooks"), { createHook } = asyncHooks, enabled = new Set()
        asyncHooks.createHook = (callbacks) => {
            const hook = createHook(callbacks)
            return {
                enable () { enabled.add(hook); hook.enable() },
                disable () { enabled.delete(hook); hook.disable() }
            }
        }
        const hooks = () => console.log(enabled.size)
        const Mutex = require(${JSON.stringify(main)})
        ;(async () => { ${code} })()`
    const { stdout } = await promisify(execFile)(process.execPath, [ "--eval", program ], { env: { ...process.env, NODE_TEST_CONTEXT: undefined } })
    return stdout.trim().split("\n").join()
}

test("promises are followed while a mutex with detectDeadlocks is open, and only then", async () => {
    assert.equal(await run(`
        const one = new Mutex("spm:x", { detectDeadlocks: true }), other = new Mutex("spm:y", { detectDeadlocks: true })
        hooks()
        await one.open(); await other.open()
        hooks()
        await one.withLock(() => {})
        await one.close()
        hooks()
        await other.lock()
        await other.close()
        hooks()
        await one.open()
        await one.acquire()
        await one.acquire().catch(({ code }) => console.log(code))
        hooks()
        await one.close()
        hooks()`), "0,1,1,0,ERR_DEADLOCK,1,0")
})

test("an open() that fails leaves none behind, and one that is repeated in vain takes none away", async () => {
    assert.equal(await run(`
        const away = new Mutex("rpm+redis://127.0.0.1:1/x?connect_timeout=1", { detectDeadlocks: true })
        await away.open().catch(({ code }) => console.log(code))
        hooks()
        const mutex = new Mutex("spm:x", { detectDeadlocks: true })
        await mutex.open()
        await mutex.open().catch(({ code }) => console.log(code))
        hooks()
        await mutex.close()
        await mutex.close().catch(({ code }) => console.log(code))
        hooks()`), "ERR_CONNECT,0,ERR_ALREADY_OPEN,1,ERR_NOT_OPEN,0")
})
