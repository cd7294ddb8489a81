"use strict"

const native = require("./native.js")
const { process } = require("./realm.js")
const { isMainThread, threadId } = require("./thread.js")
const { MutexError } = require("./errors.js")

/*
 * The one line between this thread's JavaScript and the addon's own threads: calls leave by native functions with a number
 * of our choice, answers come back here under the same number.
 */

/** What an answer means; the numbers are those of `src/binding/event.rs`. */
const GRANTED = 0, BUSY = 1, DONE = 2, SNAPSHOT = 3, FAILED = 4, LOST = 5, RECONNECTED = 6, LOCAL = 7, RELAY = 8, CLUSTER = 9,
    DISCONNECTED = 10, CREDENTIALS = 11, STOLEN = 12

/** Who hears the answers, by number. */
const listeners = new Map()
/** Who hears that a server is gone or back, by the addon's number of the mutex. */
const mutexes = new Map()
let next = 1
let environment = 0
let localGranted = () => {}
let stolen = () => {}
let relayed = () => {}
let clusterGranted = () => {}

function answer (kind, number, a, b, c) {
    if (kind === LOCAL)
        return localGranted(number, a)
    if (kind === STOLEN)
        return stolen(number, a)
    if (kind === RELAY)
        return relayed(number, a)
    if (kind === CLUSTER)
        return clusterGranted(number, a, b)
    if (kind === RECONNECTED)
        return mutexes.get(number)?.reconnected()
    if (kind === DISCONNECTED)
        return mutexes.get(number)?.disconnected()
    if (kind === CREDENTIALS)
        return void require("./credentials.js").asked(number, a)
    const listener = listeners.get(number)
    if (listener === undefined)
        return
    switch (kind) {
        case GRANTED:  return listener.granted?.(a)
        case BUSY:     return listener.busy?.()
        case DONE:     return listener.done?.()
        case SNAPSHOT: return listener.done?.(a)
        case FAILED:   return listener.failed?.(new MutexError(a, b, c))
        case LOST:     return listener.lose?.(new MutexError(a, b, c))
    }
}

/** Marks a process that gives back at its exit what it holds at servers; one listener does it for all copies of this module. */
const EXITS = Symbol.for(`ipc-mutex: gives back at exit, ${native.version()}`)
/** How long an exit may take for that (milliseconds). */
const LAST_WORDS = 800

/**
 * Connects this thread with the addon, if it is not. A normal end of the process gives back at once what remote servers would otherwise
 * keep until the end of a lease.
 * @returns {number} the addon's number for this thread
 */
function attach () {
    if (environment === 0) {
        environment = native.attach(answer, threadId, require("node:os").hostname())
        if (isMainThread && process[EXITS] === undefined) {
            Object.defineProperty(process, EXITS, { value: true })
            // Bound, not a closure: a listener of the process must not keep this copy of the module alive.
            process.on("exit", native.shutdown.bind(undefined, LAST_WORDS))
        }
    }
    return environment
}

/* How many mutexes are open or opening, and whether the thread stays connected all the same. */
let users = 0
let isPinned = false

/** One more mutex needs the connection. @returns {number} as `attach` */
function enter () {
    users++
    return attach()
}

/** One less; behind the last one the addon forgets this thread, and nothing of this module is kept alive by it. */
function leave () {
    if (--users === 0)
        resolved.then(detach)
}

/** Others rely on this thread, by numbers that must stay: it remains connected until it ends. */
function pin () {
    isPinned = true
    return attach()
}

function detach () {
    if (users > 0 || pending > 0 || isPinned || environment === 0)
        return
    native.detach(environment)
    environment = 0
    alive = false
}

/**
 * Lets a listener hear the answers under a number until `forget`, and only those that it has a method for.
 * @param {number} [number] that of a listener whose place it takes; otherwise one that no answer on its way can name
 */
function listen (listener, number = unused()) {
    listeners.set(number, listener)
    return number
}

function unused () {
    do
        next = next === 0xffffffff ? 1 : next + 1
    while (listeners.has(next))
    return next
}

const forget = (number) => { listeners.delete(number) }

/* How many calls wait, whether the addon knows that some do, and whether it is about to be told that none does. */
let pending = 0
let alive = false
let checking = false
const resolved = Promise.resolve()

/** A call that waits for its answer keeps the process alive ... */
function keepAlive () {
    pending++
    if (!alive) {
        alive = true
        native.keepAlive(environment, true)
    }
}

/**
 * ... until it has been answered. A flow that has got its answer often makes the next call at once. So the addon is told behind
 * the flow's next step: two microtasks on, for the answer is not given yet.
 */
function letGo () {
    if (--pending === 0 && !checking) {
        checking = true
        resolved.then(soon)
    }
}

const soon = () => { resolved.then(check) }

function check () {
    checking = false
    if (pending === 0 && alive) {
        alive = false
        native.keepAlive(environment, false)
    }
    detach()
}

/**
 * One call with one answer.
 * @param {(number: number) => void} send makes the native call under the number
 * @returns {Promise<unknown>}
 */
function call (send) {
    attach()
    return new Promise((resolve, reject) => {
        const over = (settle) => (value) => {
            forget(number)
            letGo()
            settle(value)
        }
        const number = listen({ done: over(resolve), failed: over(reject) })
        keepAlive()
        send(number)
    })
}

module.exports = {
    answer, attach, call, enter, forget, keepAlive, leave, letGo, listen, mutexes, pin,
    onLocalGrant (listener) { localGranted = listener },
    onStolen (listener) { stolen = listener },
    onRelay (listener) { relayed = listener },
    onClusterGrant (listener) { clusterGranted = listener }
}
