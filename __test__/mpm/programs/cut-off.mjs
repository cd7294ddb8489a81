// A worker, or a thread of it, that the primary cuts off while it computes and hears nothing. It holds one lock and waits for another, which the primary grants
// it before. What it believes is written to the standard output, a line each.
import cluster from "node:cluster"
import { existsSync, writeFileSync, writeSync } from "node:fs"
import { createRequire } from "node:module"
import { Worker, isMainThread, threadId } from "node:worker_threads"
import { fileURLToPath } from "node:url"

const Mutex = createRequire(import.meta.url)("../../../index.js")
/** Where files tell what has happened, as nothing is heard. */
const folder = process.argv[2]
const inThread = process.argv[3] === "thread"
const say = (line) => writeSync(1, `${line}\n`)
const mark = (name) => writeFileSync(`${folder}/${name}`, "")
const isMarked = (name) => existsSync(`${folder}/${name}`)
const turn = () => new Promise(setImmediate)

async function victim () {
    const held = new Mutex("mpm:held"), wanted = new Mutex("mpm:wanted")
    await held.open()
    await wanted.open()
    held.on("lost", ({ code }) => {
        say(`lost ${code}`)
        for (const mutex of [ held, wanted ])
            mutex.close().then(() => say("closed"), (error) => say(`close ${error.stack}`))
    })
    const lock = await held.lock(), { signal } = lock
    const settled = (name) => [ () => say("believes"), ({ code }) => say(`${name} ${code}`) ]
    const calls = [ wanted.acquire().then(...settled("acquire")), wanted.withLock(() => say("believes")).catch(settled("withLock")[1]),
        wanted.lock({ shared: true }).then(...settled("lock")) ]
    while ((await wanted.query()).pending.length < 3)
        await turn()
    mark("standing")
    while (!isMarked("cut"))
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10)
    const aborted = lock.signal.aborted
    say(`signal ${aborted} ${signal.aborted} ${signal.reason?.code}`)
    await Promise.all(calls)
    await lock.release().then(() => say("released"), ({ code }) => say(`release ${code}`))
    await turn()
    say("over")
    mark("over")
}

if (threadId !== 0)
    await victim()
else if (cluster.isPrimary) {
    const wanted = new Mutex("mpm:wanted"), held = new Mutex("mpm:held")
    await wanted.open()
    await held.open()
    await wanted.acquire()
    const worker = cluster.fork()
    worker.on("error", () => {})
    while (!isMarked("standing"))
        await turn()
    await wanted.release()
    for (let count = 0; count < 10; count++)
        await turn()
    worker.process.disconnect()
    await Promise.all([ wanted.acquire(), held.acquire() ])
    mark("cut")
    worker.on("exit", () => process.exit())
}
else {
    cluster.worker.exitedAfterDisconnect = true
    const alive = setInterval(() => isMarked("over") && process.exit(), 20)
    if (isMainThread && inThread)
        new Worker(fileURLToPath(import.meta.url), { argv: process.argv.slice(2) }).on("error", (error) => say(error.stack))
    else
        await victim()
    alive.ref()
}
