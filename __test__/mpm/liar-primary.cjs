"use strict"

// A primary with two workers: one takes a lock again and again, the other also sends nonsense in the name of this package.
const cluster = require("node:cluster")
const Mutex = require("../../index.js")

const ROUNDS = 300, LIES = 2000

async function work () {
    const mutex = new Mutex("mpm:lock")
    await mutex.open()
    for (let round = 0; round < ROUNDS; round++) {
        const lock = await mutex.lock()
        await new Promise(setImmediate)
        await lock.release()
    }
    await mutex.close()
}

/** Pseudo-random numbers below 1, the same in each run. */
function* numbers (seed) {
    for (;;) {
        seed = Math.imul(seed, 1103515245) + 12345 & 0x7fffffff
        yield seed / 0x80000000
    }
}

async function lie () {
    const random = numbers(7)
    const next = (below) => Math.floor(random.next().value * below)
    const words = [ 0, 1, 2, 3, 4, 2 ** 32 - 1, 2 ** 53, -1, "$", NaN, 1e300, "", "x" ]
    const texts = [ "lock", null, {}, 5 ]
    for (let count = 0; count < LIES; count++) {
        const frame = [ next(11), ...Array.from({ length: next(8) }, () => words[next(words.length)]) ]
        const message = { cmd: `NODE_IPC_MUTEX${next(4)},${frame}`, s: Array.from({ length: next(4) }, () => texts[next(4)]) }
        await new Promise((resolve) => process.send(message, resolve))
    }
}

async function primary () {
    const ends = [ "work", "lie" ].map((role) => new Promise((resolve) => {
        cluster.fork({ ROLE: role }).on("exit", (code, signal) => resolve({ role, code, signal }))
    }))
    await work()
    const ended = await Promise.all(ends)
    const mutex = new Mutex("mpm:lock")
    await mutex.open()
    process.send({ name: "ended", ended, seen: await mutex.query() })
    await mutex.close()
    process.disconnect()
}

if (cluster.isPrimary)
    primary()
else {
    // What the liar's own object of the package makes of the answers is its own business.
    const role = process.env.ROLE === "lie" ? lie : work
    role().then(() => process.disconnect())
}
