"use strict"

const { debuglog } = require("node:util")
const native = require("../native.js")
const port = require("../port.js")
const { MutexError } = require("../errors.js")
const { Hold } = require("../hold.js")
const lanes = require("./lane.js")
const snapshot = require("../snapshot.js")

const debug = debuglog("ipc-mutex")

/**
 * A lock on a server: the addon's own thread does the work, this only passes calls and answers. What goes by the express lane
 * (lane.js) instead is answered in the same words.
 */
class RpmModel {
    /**
     * @param {string} url
     * @param {string | undefined} label
     * @param {import("node:events").EventEmitter} owner hears "disconnect" when the connection is gone, and "reconnect" when the
     *     server is back
     */
    constructor (url, label, owner) {
        this.url   = url
        this.label = label
        this.owner = owner
        this.mutex = 0
        this.lane  = undefined
    }

    disconnected () {
        debug("%s: disconnected", this.owner.id)
        this.owner.emit("disconnect")
    }

    reconnected () {
        debug("%s: reconnected", this.owner.id)
        this.owner.emit("reconnect")
    }

    async open () {
        try {
            await port.call((number) => {
                this.mutex = native.remoteOpen(port.attach(), number, this.url, this.label)
                port.mutexes.set(this.mutex, this)
            })
        }
        catch (error) {
            port.mutexes.delete(this.mutex)
            throw error
        }
        this.lane = lanes.enter(native.laneOf(this.mutex))
    }

    /** @param {import("../waiter.js").Waiter} waiter */
    request (waiter) {
        const request = new Request(this, waiter)
        waiter.key = request.number
        port.keepAlive()
        const way = native.remoteRequest(port.attach(), request.number, this.mutex, waiter.shared, waiter.wait, waiter.fenced,
            this.lane?.line ?? 0)
        if (way !== undefined)
            this.lane?.go(way)
    }

    /** @returns {Promise<void>} when the server has no trace of the waiter any more, or a second has passed */
    cancel (waiter) {
        port.forget(waiter.key)
        port.letGo()
        return port.call((number) => native.remoteCancel(port.attach(), number, waiter.key))
    }

    /** The mutex closes, which withdraws everything of it at once: nothing more is to be heard for this waiter. */
    abandon (waiter) {
        port.forget(waiter.key)
        port.letGo()
    }

    release (hold) {
        return hold.request.release()
    }

    /** Ends the hold if its lease is over by the clock, whether or not the addon's word of that has been heard yet. */
    verify (hold) {
        if (hold.lost === undefined && !native.remoteBelieved(port.attach(), hold.key))
            hold.lose(new MutexError("ERR_LOCK_LOST", "the lock was lost: its lease is over, not renewed in time or ended by max_hold"))
    }

    async query () {
        return snapshot.parse(await port.call((number) => native.remoteQuery(port.attach(), number, this.mutex)))
    }

    async close () {
        try {
            await port.call((number) => native.remoteClose(port.attach(), number, this.mutex))
        }
        finally {
            port.mutexes.delete(this.mutex)
            this.lane?.leave()
            this.lane = undefined
        }
    }
}

/** What hears the addon's answers to one request, from the call to the end of its hold. */
class Request {
    constructor (model, waiter) {
        this.model     = model
        this.waiter    = waiter
        this.hold      = undefined
        this.releasing = undefined
        this.number    = port.listen(this)
    }

    granted (token) {
        port.letGo()
        this.hold = new Hold(this.model, this.number, this.waiter.shared, token)
        this.hold.request = this
        this.waiter.granted(this.hold)
        this.waiter = undefined
    }

    busy () {
        this.#over()
        this.waiter.busy()
    }

    failed (error) {
        this.#over()
        if (this.releasing !== undefined)
            this.releasing.reject(error)
        else
            this.waiter.failed(error)
    }

    /** The hold ended by itself; a `release()` on its way is answered by that. */
    lose (error) {
        port.forget(this.number)
        if (this.releasing !== undefined) {
            port.letGo()
            this.releasing.reject(error)
        }
        this.hold.lose(error)
    }

    done () {
        this.#over()
        this.releasing.resolve()
    }

    release () {
        return new Promise((resolve, reject) => {
            this.releasing = { resolve, reject }
            port.keepAlive()
            const { lane } = this.model
            const way = native.remoteRelease(port.attach(), this.number, lane?.line ?? 0)
            if (way !== undefined)
                lane?.go(way)
        })
    }

    #over () {
        port.forget(this.number)
        port.letGo()
    }
}

module.exports = { RpmModel }
