"use strict"

const errors = require("../errors.js")
const { isMainThread } = require("../thread.js")
const { Client } = require("./client.js")
const copies = require("./copies.js")
const { MpmModel } = require("./model.js")
const { PRIMARY, SECOND_COPY, role } = require("./role.js")

/** The way from this thread to the lock table, shared by all its mutexes. */
let client

function connect () {
    switch (role()) {
        case PRIMARY:     return direct(copies.ask)
        case SECOND_COPY: return secondCopy()
        default:          return isMainThread ? byChannel() : byMainThread()
    }
}

/** The table is in this process: the primary's, or that of one without a cluster. */
function direct (ask) {
    const asking = new Client((words) => post(words), () => "")
    const post = ask((words, from) => asking.hear(words, from))
    return asking
}

function secondCopy () {
    if (isMainThread)
        return direct(copies.askFirst)
    throw new errors.MutexError("ERR_PRIMARY",
        "another copy of ipc-mutex in this process coordinates mpm locks, which worker threads of this one cannot reach; install one copy only")
}

function byChannel () {
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
