"use strict"

const { EventEmitter } = require("node:events")
const { inspect } = require("node:util")
const errors = require("./errors.js")
const settings = require("./settings.js")
const { createModel } = require("./models/index.js")
const { Place } = require("./manager/place.js")
const { now } = require("./timing.js")

require("./cluster/role.js").join()

/* As in lib/mutex.js: loaded with the first call. */
let inOrder, request, several, webLocks, withLock, Patience, Session, Sessions

function load () {
    inOrder  = require("./manager/order.js").inOrder
    request  = require("./request.js")
    several  = require("./manager/several.js")
    webLocks = require("./manager/web-locks.js")
    withLock = require("./with-lock.js").withLock
    Patience = require("./manager/patience.js").Patience
    Session  = require("./session.js").Session
    Sessions = require("./manager/sessions.js").Sessions
}

/** As in lib/lock.js. */
const asyncDispose = Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")
/** The id of the lock that keeps the connection. Nobody takes it through the anchor. */
const ANCHOR = "anchor"

/** Locks by name, as far as the URL reaches. See index.d.ts. */
class LockManager extends EventEmitter {
    #place
    #options
    #detector
    #isObserved = false
    /** An open session that keeps what all names share, from the first call to `close()`. */
    #anchor
    #opening
    /** The calls that wait for that. */
    #early
    #isClosed = false
    #closing
    #sessions
    /** Hears of the locks' events. Those of the coordinator come from the anchor. */
    #listener = { emit: (event, ...args) => event !== "disconnect" && event !== "reconnect" && this.emit(event, ...args) }

    constructor (url, options) {
        super()
        const text = settings.url(url)
        this.#options = settings.managerOptions(options)
        this.#place = new Place(text)
        settings.checkCredentials(this.#options, this.#place.model)
        this.#detector = this.#options.detectDeadlocks ? require("./deadlock.js").detector() : undefined
    }

    async open () {
        await this.#ready()
    }

    /**
     * Opens the anchor, if it is not.
     * @returns {Promise<void> | undefined} when it is; undefined: it is
     */
    #ready () {
        if (this.#isClosed)
            throw errors.managerClosed()
        if (this.#anchor !== undefined)
            return undefined
        if (this.#opening !== undefined)
            return this.#opening
        if (Session === undefined)
            load()
        this.#sessions ??= new Sessions((name, idle) => this.#session(name, idle))
        const { model } = this.#place
        const anchor = new Session(this, this.#place.urlOf(ANCHOR), { model, id: ANCHOR }, undefined, false)
        anchor.model = createModel(anchor, this.#options)
        if (model !== "spm") {
            this.#early ??= new Patience()
            this.#opening = this.#open(anchor)
            // It may be that only those calls hear of a failure.
            this.#opening.catch(() => {})
            return this.#opening
        }
        anchor.model.openWith()
        this.#opened(anchor)
        return undefined
    }

    #opened (anchor) {
        this.#anchor = anchor
        this.#detector?.enter()
    }

    async #open (anchor) {
        try {
            await anchor.model.open()
            this.#opened(anchor)
        }
        catch (error) {
            this.#early.fail(errors.retraced(error))
            throw error
        }
        finally {
            this.#opening = undefined
        }
        this.#early.goOn()
    }

    #session (name, idle) {
        const { id, url } = this.#place.lockOf(name)
        const target = { model: this.#place.model, id }
        const session = new Session(this.#listener, url, target, this.#detector, this.#isObserved, { name, idle })
        session.model = createModel(session, this.#options)
        session.model.openWith(this.#anchor.model)
        return session
    }

    lock (name, options) {
        return this.#ask(name, "LOCK", settings.lockOptions, options)
    }

    tryLock (name, options) {
        return this.#ask(name, "TRY_LOCK", settings.tryOptions, options)
    }

    #ask (name, kind, read, options) {
        try {
            const given = read(options)
            if (typeof name === "string")
                return this.#send(name, kind, given)
            if (!Array.isArray(name))
                throw settings.wrongType("name", "a string or an array of strings", name)
            if (inOrder === undefined)
                load()
            return several.takeAll(inOrder(name, this.#place), given, (each, its) => this.#send(each, kind, its))
        }
        catch (error) {
            return Promise.reject(error)
        }
    }

    #send (name, kind, given) {
        return this.#ready() === undefined ? this.#sendNow(name, kind, given) : this.#sendLater(name, kind, given)
    }

    #sendNow (name, kind, given) {
        const session = this.#sessions.of(name)
        const { size } = session.requests
        // A thief does not wait.
        if (kind === "LOCK" && !given.steal && size >= this.#options.maxPending)
            throw errors.queueFull(name, size)
        return session.ask(request[kind], given)
    }

    #sendLater (name, kind, given) {
        const begun = now()
        return this.#early.wait(given, name, () => {
            // Unless it has been closed meanwhile.
            this.#ready()
            const { timeout } = given
            const left = timeout === undefined ? undefined : Math.max(0, timeout - (now() - begun))
            return this.#sendNow(name, kind, { ...given, timeout: left, total: timeout })
        })
    }

    withLock (name, options, fn) {
        try {
            [ options, fn ] = settings.withFunction(options, fn)
        }
        catch (error) {
            return Promise.reject(error)
        }
        if (withLock === undefined)
            load()
        return withLock(() => this.lock(name, options), fn, Array.isArray(name) ? several.check : undefined)
    }

    async request (...args) {
        if (webLocks === undefined)
            load()
        return webLocks.request(this, this.#place, args)
    }

    isHeld (name) {
        if (typeof name !== "string")
            throw settings.wrongType("name", "a string", name)
        return this.#sessions?.find(name)?.isHeld ?? false
    }

    async query () {
        await this.#ready()
        return webLocks.snapshot(await this.#anchor.model.queryAll())
    }

    close () {
        if (!this.#isClosed) {
            this.#isClosed = true
            this.#closing = this.#close()
        }
        return this.#closing
    }

    async #close () {
        if (this.#opening !== undefined)
            // Who waits for it hears of a failure.
            await this.#opening.catch(() => {})
        try {
            await this.#sessions?.close()
        }
        finally {
            if (this.#anchor !== undefined) {
                this.#detector?.leave()
                await this.#anchor.close()
            }
            this.#anchor = undefined
        }
    }

    [asyncDispose] () {
        return this.close()
    }

    [inspect.custom] (depth, options) {
        return `LockManager ${inspect({ model: this.#place.model, state: this.#isClosed ? "closed" : "open" }, options)}`
    }

    /* As in Mutex. */

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
        for (const session of this.#sessions ?? [])
            session.observe()
    }
}

module.exports = { LockManager }
