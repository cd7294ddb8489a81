"use strict"

const { Outbox } = require("./outbox.js")
const { Peer } = require("./peer.js")
const { ASK, ANSWER, encode, decode, isFrame } = require("./frames.js")

/** Marks a worker's process that is attended to, for all copies of this package: a second one would grant what this one has granted. */
const ATTENDED = Symbol.for("ipc-mutex: attends to this cluster worker")

/** What cannot be sent has nobody to hear it: the worker is gone, and its end is told by other events. */
const unsent = () => {}

/** Answers what the threads of one worker process ask, until it has gone. */
function attend ({ process: child }) {
    if (child[ATTENDED] === true)
        return
    Object.defineProperty(child, ATTENDED, { value: true })
    const clients = new Map()
    let gone = false

    const end = (c) => {
        clients.get(c)?.end()
        clients.delete(c)
    }
    const join = (c) => {
        const outbox = new Outbox((words) => child.send(encode(c, words), unsent))
        const client = new Peer(child.pid, (words) => outbox.post(words))
        clients.set(c, client)
        return client
    }
    child.on("internalMessage", (message) => {
        // What a worker wrote before its end may be read after it.
        if (!isFrame(message) || gone)
            return
        const words = decode(message)
        const [ c, first ] = words
        if (first === ASK.END)
            end(c)
        else
            (clients.get(c) ?? (first === ASK.HELLO ? join(c) : undefined))?.take(words, 1)
    })
    const ongone = () => {
        gone = true
        for (const c of [ ...clients.keys() ])
            end(c)
    }
    child.once("disconnect", ongone)
    child.once("exit", ongone)
}

/** Serves the workers that this process has forked and will fork. */
function serve (cluster) {
    for (const worker of Object.values(cluster.workers)) {
        attend(worker)
        if (worker.isConnected())
            worker.process.send(encode(0, [ ANSWER.READY ]), unsent)
    }
    cluster.on("fork", attend)
}

module.exports = { serve }
