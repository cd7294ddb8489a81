// No cluster at all.
import { test } from "node:test"
import assert from "node:assert/strict"
import { createRequire } from "node:module"
import { cpSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { watchLeaks } from "../support/leaks.mjs"
import { startChild } from "../support/children.mjs"
import { actor } from "./programs/actor.mjs"

watchLeaks()

const act = actor(async () => (await import("../../index.mjs")).default)
const perform = async (deed, ...args) => {
    const { error, result } = await act({ deed, args })
    if (error !== undefined)
        throw Object.assign(new Error(error.message), error)
    return result
}

test("without a cluster the lock reaches through the process and its threads", async () => {
    await perform("open", "m", "mpm:lock")
    await perform("thread", "t")
    await perform("within", "t", "open", "m", "mpm:lock")
    await perform("within", "t", "acquire", "m")
    assert.equal(await perform("tryAcquire", "m"), false)
    const granted = perform("acquire", "m")
    await perform("terminate", "t")
    await granted
    await perform("close", "m")
})

const main = JSON.stringify(new URL("../../index.mjs", import.meta.url))
const run = async (t, code) => {
    const child = await startChild(t, new URL(`data:text/javascript,${encodeURIComponent(`
        const { default: Mutex } = await import(${main})
        ${code}
    `)}`))
    return child
}

test("the package does not load node:cluster, nor keep the process alive, until a cluster is there", async (t) => {
    const child = await run(t, `
        const mutex = new Mutex("mpm:lock")
        await mutex.open()
        await mutex.acquire()
        process.send({ name: "loaded", cluster: process.moduleLoadList.includes("NativeModule cluster") })
        process.channel.unref()
    `)
    // Node.js 18 does not tell of new child processes, so the package cannot wait for them there.
    assert.equal((await child.message("loaded")).cluster, Number(process.versions.node.split(".")[0]) < 20)
    await child.success()
})

test("a second copy of the package in the process, with an addon of its own, uses the first one's table", async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "mpm-copy-"))
    t.after(() => rmSync(folder, { recursive: true }))
    const root = new URL("../../", import.meta.url)
    for (const name of [ "index.js", "package.json", "lib" ])
        cpSync(new URL(name, root), join(folder, name), { recursive: true })
    const [ addon ] = readdirSync(root).filter((name) => name.endsWith(".node"))
    cpSync(process.env.IPC_MUTEX_NATIVE ?? new URL(addon, root), join(folder, addon))
    const Second = createRequire(import.meta.url)(join(folder, "index.js"))
    await perform("open", "ours", "mpm:copies")
    const theirs = new Second("mpm:copies")
    await theirs.open()
    await perform("acquire", "ours")
    assert.equal(await theirs.tryAcquire(), false)
    const granted = theirs.acquire()
    await perform("release", "ours")
    await granted
    assert.equal(await perform("tryAcquire", "ours"), false)
    await theirs.close()
    await perform("close", "ours")
})

test("a pending acquire() keeps the process alive", async (t) => {
    const child = await run(t, `
        const mutex = new Mutex("mpm:lock")
        await mutex.open()
        await mutex.acquire()
        const timer = setTimeout(() => mutex.release(), 200)
        timer.unref()
        process.channel.unref()
        await mutex.acquire()
        process.send("granted")
    `)
    await child.message("granted")
})

test("a process with a cluster keeps its locks when its workers have gone, and ends", async (t) => {
    const child = await run(t, `
        const { default: cluster } = await import("node:cluster")
        const mutex = new Mutex("mpm:lock")
        await mutex.open()
        cluster.setupPrimary({ exec: "/dev/null", execArgv: [ "--input-type=commonjs", "--eval", "process.disconnect()" ] })
        const worker = cluster.fork()
        await new Promise((resolve) => worker.on("exit", resolve))
        await mutex.acquire()
        process.send("acquired")
        process.channel.unref()
    `)
    await child.message("acquired")
    await child.success()
})
