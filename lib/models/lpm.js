"use strict"

const native = require("../native.js")
const port = require("../port.js")
const snapshot = require("../snapshot.js")
const { DONE } = require("../hold.js")
const { MutexError } = require("../errors.js")

/** A lock of all processes of the machine that use the same folder. Each call is answered at once by the table that they share. */
class LpmModel {
    /** @param {import("../session.js").Session} session */
    constructor (session, label) {
        this.session = session
        this.label   = label
        /** The addon's number of the mutex. */
        this.handle  = 0
    }

    async open () {
        const { handle, error } = native.machineOpen(port.enter(), this.session.url, this.label)
        if (error !== undefined) {
            port.leave()
            throw failure(error)
        }
        this.handle = handle
    }

    /** @param {LpmModel} other is open at the same folder */
    openWith (other) {
        this.handle = native.machineOpenWith(port.enter(), other.handle, this.session.id, this.label)
    }

    ask (request) {
        const asked = new Asked(this, request)
        request.key = port.listen(asked)
        const answer = native.machineRequest(port.attach(), request.key, this.handle, request.shared, request.wait)
        if (typeof answer === "bigint")
            asked.granted(answer)
        else if (answer === false) {
            port.forget(request.key)
            request.busy()
        }
        else if (answer !== true)
            asked.failed(failure(answer))
    }

    cancel (request) {
        port.forget(request.key)
        native.machineCancel(port.attach(), request.key, this.handle)
    }

    release (hold) {
        port.forget(hold.key)
        const error = native.machineRelease(port.attach(), hold.key, this.handle)
        if (error === undefined)
            return DONE
        return Promise.reject(error.code === "ERR_LOCK_LOST" ? this.lost() : failure(error))
    }

    /** Ends the hold if the table was deleted, whether or not that has been heard. */
    verify (hold) {
        if (native.machineHeld(port.attach(), hold.key, this.handle))
            return
        port.forget(hold.key)
        hold.lose(this.lost())
    }

    lost () {
        return new MutexError("ERR_LOCK_LOST", `lock "${this.session.id}" was lost: its lock table was deleted`)
    }

    async query () {
        const text = native.machineSnapshot(this.handle)
        if (typeof text !== "string")
            throw failure(text)
        return snapshot.parse(text)
    }

    /** All locks of the folder, also those of other processes. */
    async queryAll () {
        const text = native.machineSnapshots(this.handle)
        if (typeof text !== "string")
            throw failure(text)
        return snapshot.parseAll(text)
    }

    async close (holds) {
        for (const hold of holds) {
            port.forget(hold.key)
            native.machineRelease(port.attach(), hold.key, this.handle)
        }
        native.machineClose(this.handle)
        port.leave()
    }
}

const failure = ({ code, message, cause }) => new MutexError(code, message, cause)

/** Hears what becomes of a request, and of the hold that it becomes. */
class Asked {
    constructor (model, request) {
        this.model   = model
        this.request = request
    }

    granted (token) {
        const { request } = this
        request.granted(request.key, request.fenced ? token : undefined)
    }

    failed (error) {
        port.forget(this.request.key)
        this.request.failed(error)
    }

    lose () {
        port.forget(this.request.key)
        this.request.hold?.lose(this.model.lost())
    }
}

module.exports = { LpmModel }
