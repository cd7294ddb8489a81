"use strict"

const errors = require("../errors.js")
const native = require("../native.js")
const port = require("../port.js")
const { isMainThread } = require("../thread.js")
const { Client } = require("./client.js")
const { MpmModel } = require("./model.js")
const { PRIMARY, role } = require("./role.js")

/** The way from this thread to the lock table, shared by all its mutexes. */
let client

function connect () {
    if (native.conflict !== undefined)
        throw new errors.MutexError("ERR_SERVER", native.conflict)
    if (role() === PRIMARY)
        return direct()
    return isMainThread ? byChannel() : byMainThread()
}

/** The table is in this process: the primary's, or that of one without a cluster. */
function direct () {
    const asking = new Client((words) => peer.take(words, 0), () => "", () => {
        if (client !== asking)
            return
        client = undefined
        peer.end()
    })
    const peer = new (require("./peer.js").Peer)(process.pid, (words) => asking.hear(words, 0))
    return asking
}

function byChannel () {
    port.pin()
    const { Outbox } = require("./outbox.js")
    const asking = new Client((words, urgent) => urgent ? outbox.urge(words) : outbox.post(words), () =>
        "no answer from the cluster primary within 5 seconds; load ipc-mutex there too: the program that calls cluster.fork() " +
        "needs a require(\"ipc-mutex\") or import \"ipc-mutex\", no more")
    const outbox = new Outbox(require("./channel.js").connect((words, from) => asking.hear(words, from)).send)
    return asking
}

function byMainThread () {
    const relay = require("./relay.js")
    const asking = new Client((words, urgent) => post(words, urgent), () => relay.isAlone()
        ? "no answer from the main thread of this process within 5 seconds; load ipc-mutex there too: a worker thread reaches the " +
          "cluster primary through its process's main thread, which needs a require(\"ipc-mutex\") or import \"ipc-mutex\""
        : "no answer from the cluster primary within 5 seconds; load ipc-mutex there too, and do not block the main thread of this process")
    const post = relay.connect((words, from) => asking.hear(words, from))
    return asking
}

/** A lock of a cluster's primary and all its workers. */
const model = (session, label) => new MpmModel(() => client ??= connect(), session, label)

module.exports = { model }
