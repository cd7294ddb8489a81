"use strict"

const { EventEmitter } = require("node:events")
const { debuglog, inspect } = require("node:util")
const errors = require("./errors.js")
const settings = require("./settings.js")
const { createModel, parse } = require("./models/index.js")
// Before a test can put others in the place of the timers.
require("./timing.js")

require("./cluster/role.js").join()

/* What opens and uses mutexes is loaded with the first one that opens: a program that only loads the package waits less. */
let request, trace, withLock, Opening, Session

function load () {
    request  = require("./request.js")
    trace    = require("./trace.js")
    withLock = require("./with-lock.js").withLock
    Opening  = require("./models/opening.js").Opening
    Session  = require("./session.js").Session
}

const debug = debuglog("ipc-mutex")
const isDebugging = debug.enabled
/** As in lib/lock.js. */
const asyncDispose = Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")
const CLOSED = "closed", OPENING = "opening", OPEN = "open", CLOSING = "closing"
/** What a call that succeeds at once resolves to: one promise, made once. */
const DONE = Promise.resolve()

/** Mutual exclusion, as far as the URL reaches. See index.d.ts. */
class Mutex extends EventEmitter {
    #url
    #target
    #options
    #detector
    #state = CLOSED
    #opening
    #closing
    /** What is asked and held, from the call of `open()` to that of `close()`. */
    #session
    /** The model, while nobody but the caller wants to know of an `acquire()` without options: then the lock's word may be all that changes. */
    #fast = null
    #isObserved = false

    constructor (url, options) {
        super()
        const text = settings.url(url)
        this.#options = settings.mutexOptions(options)
        this.#target = parse(text)
        this.#url = text
        settings.checkCredentials(this.#options, this.#target.model)
        this.#detector = this.#options.detectDeadlocks ? require("./deadlock.js").detector() : undefined
    }

    get id () {
        return this.#target.id
    }

    open () {
        if (this.#state !== CLOSED)
            return Promise.reject(errors.alreadyOpen(this.id))
        this.#state = OPENING
        return this.#opening = this.#open()
    }

    async #open () {
        this.#detector?.enter()
        let opening
        try {
            if (Session === undefined)
                load()
            const session = new Session(this, this.#url, this.#target, this.#detector, this.#isObserved)
            session.model = opening = new Opening(createModel(session, this.#options))
            this.#session = session
            await opening.model.open()
        }
        catch (error) {
            this.#detector?.leave()
            this.#session = undefined
            this.#state = CLOSED
            debug("%s: open failed: %s", this.id, error.message)
            opening?.fail(error)
            throw errors.retraced(error)
        }
        finally {
            this.#opening = undefined
        }
        const { model } = opening
        this.#session.model = model
        this.#state = OPEN
        this.#fast = !this.#isObserved && this.#detector === undefined && model.take !== undefined ? model : null
        debug("%s: open", this.id)
        opening.passOn()
    }

    async close () {
        if (this.#state === OPENING) {
            this.#session?.end()
            await this.#opening
        }
        if (this.#state !== OPEN)
            throw errors.notOpen(this.id)
        this.#state = CLOSING
        this.#fast = null
        const session = this.#session
        this.#session = undefined
        try {
            await (this.#closing = session.close())
        }
        finally {
            this.#detector?.leave()
            this.#closing = undefined
            this.#state = CLOSED
            debug("%s: closed", this.id)
        }
    }

    acquire (options) {
        if (this.#fast !== null && options === undefined && !trace.active()) {
            if (this.#fast.take()) {
                if (isDebugging)
                    debug("%s: acquire", this.id)
                return DONE
            }
            const waiting = this.#fast.join?.()
            if (waiting !== undefined)
                return waiting
        }
        return this.#ask("ACQUIRE", settings.acquireOptions, options)
    }

    tryAcquire (options) {
        return this.#ask("TRY_ACQUIRE", settings.tryOptions, options)
    }

    release () {
        // Such a hold began while nobody traced, so there is no span to end.
        if (this.#fast !== null && this.#fast.isTaken && !this.#session.hasUnreleased) {
            if (isDebugging)
                debug("%s: release", this.id)
            return this.#fast.free()
        }
        return this.#session?.release() ?? Promise.reject(errors.notOpen(this.id))
    }

    lock (options) {
        return this.#ask("LOCK", settings.lockOptions, options)
    }

    tryLock (options) {
        return this.#ask("TRY_LOCK", settings.tryOptions, options)
    }

    #ask (kind, read, options) {
        try {
            const given = read(options)
            if (this.#session === undefined)
                throw errors.notOpen(this.id)
            return this.#session.ask(request[kind], given)
        }
        catch (error) {
            return Promise.reject(error)
        }
    }

    withLock (options, fn) {
        try {
            [ options, fn ] = settings.withFunction(options, fn)
        }
        catch (error) {
            return Promise.reject(error)
        }
        if (withLock === undefined)
            load()
        return withLock(() => this.lock(options), fn)
    }

    isHeld () {
        return this.#session?.isHeld ?? false
    }

    async query () {
        await this.#opening
        if (this.#state !== OPEN)
            throw errors.notOpen(this.id)
        return this.#session.model.query()
    }

    async [asyncDispose] () {
        if (this.#state === CLOSING)
            await this.#closing
        else if (this.#state !== CLOSED)
            await this.close()
    }

    [inspect.custom] (depth, options) {
        return `Mutex ${inspect({ id: this.id, model: this.#target.model, state: this.#state }, options)}`
    }

    /* Once somebody listens, every hold is one that can be told of. */

    on (...args) {
        this.#observe()
        return super.on(...args)
    }

    addListener (...args) {
        return this.on(...args)
    }

    prependListener (...args) {
        this.#observe()
        return super.prependListener(...args)
    }

    #observe () {
        this.#isObserved = true
        this.#fast = null
        this.#session?.observe()
    }
}

module.exports = { Mutex }
