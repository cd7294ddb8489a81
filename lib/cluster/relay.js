"use strict"

const native = require("../native.js")
const port = require("../port.js")
const channel = require("./channel.js")
const { Outbox } = require("./outbox.js")
const { ASK, ANSWER } = require("./frames.js")

/*
 * In a worker process only the main thread has a channel to the primary. It lends it to the other threads: their frames
 * come and go through the addon, as text, and each thread is a client of its own there.
 */

/** The main thread's side: the channel of each thread, by the addon's number of the thread. */
function serve () {
    const env = port.pin()
    const threads = new Map()
    port.onRelay((thread, text) => {
        let line = threads.get(thread)
        if (text === undefined) {
            line?.send([ ASK.END ])
            line?.close()
            threads.delete(thread)
            return
        }
        if (line === undefined) {
            line = channel.connect((words, from) => native.relaySend(env, thread, JSON.stringify(words.slice(from))))
            threads.set(thread, line)
        }
        line.send(JSON.parse(text))
    })
    native.relayServe(env, JSON.stringify([ ANSWER.READY ]))
}

/** Whether the last frame of this thread had nobody to take it: the main thread has not loaded the package. */
let alone = false

/**
 * Another thread's side.
 * @param {(words: Array<number | string>, from: number) => void} hear
 * @returns {(words: Array<number | string | null>, urgent?: boolean) => Promise<void> | undefined}
 */
function connect (hear) {
    const env = port.pin()
    port.onRelay((_main, text) => hear(JSON.parse(text), 0))
    const outbox = new Outbox((frame) => {
        alone = !native.relaySend(env, 0, JSON.stringify(frame))
    })
    return (words, urgent) => urgent ? outbox.urge(words) : outbox.post(words)
}

module.exports = { serve, connect, isAlone: () => alone }
