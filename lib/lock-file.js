"use strict"

/*
 * What `ipc-mutex/proper-lockfile` needs of the addon, without promises, because half of that API is synchronous: the lock of the machine that stands
 * before a lock folder, and a thread that keeps the folder fresh.
 */

const { createHash } = require("node:crypto")
const fs = require("node:fs")
const path = require("node:path")
const native = require("./native.js")
const port = require("./port.js")
const snapshot = require("./snapshot.js")
const { setTimeout, clearTimeout } = require("./timing.js")

/**
 * A lock `lpm:` for a lock folder. Whoever takes the folder takes this first. So the processes of one user wait in line and without polling, and a folder
 * that somebody made who is dead is known: its note is still there, though nobody has the lock.
 */
class MachineLock {
    #folder
    #handle
    #key = 0
    #table
    #note

    /** @returns {MachineLock | undefined} undefined where the machine has no such table; the folder alone decides then */
    static open (folder) {
        const hash = createHash("sha256").update(folder).digest("hex")
        const { handle, error } = native.machineOpen(port.enter(), `lpm:file-${hash}`, folder)
        if (error === undefined)
            return new MachineLock(folder, handle, hash)
        port.leave()
    }

    constructor (folder, handle, hash) {
        this.#folder = folder
        this.#handle = handle
        this.#table  = native.machinePath(handle)
        this.#note   = path.join(path.dirname(this.#table), "files", hash)
    }

    get isHeld () {
        return this.#key !== 0
    }

    /** Takes the lock, if it is free. @returns {boolean} whether it is held now; also true if the table fails, as then the folder alone decides */
    take () {
        return this.isHeld || this.#ask(false, { lose () {} }) !== false
    }

    /** Waits for the lock. @returns {Promise<void>} resolves when it is held, or after some time (milliseconds) */
    wait (ms) {
        return new Promise((resolve) => {
            const over = () => {
                clearTimeout(timer)
                resolve()
            }
            const timer = setTimeout(() => {
                this.#leave(native.machineCancel)
                resolve()
            }, ms)
            // A table that fails answers like one that keeps us waiting: the folder is looked at again after that time.
            if (typeof this.#ask(true, { granted: over, lose () {} }) === "bigint")
                over()
        })
    }

    #ask (wait, listener) {
        this.#key = port.listen(listener)
        const answer = native.machineRequest(port.attach(), this.#key, this.#handle, false, wait)
        if (answer === false)
            this.#forget()
        return answer
    }

    #forget () {
        port.forget(this.#key)
        this.#key = 0
    }

    #leave (how) {
        if (!this.isHeld)
            return
        how(port.attach(), this.#key, this.#handle)
        this.#forget()
    }

    /** Gives the lock back, if it is held. */
    close () {
        this.#leave(native.machineRelease)
        native.machineClose(this.#handle)
        port.leave()
    }

    /** Notes which folder the holder of this lock has made. */
    remember () {
        try {
            fs.mkdirSync(path.dirname(this.#note), { recursive: true, mode: 0o700 })
            fs.writeFileSync(this.#note, this.#text(), { mode: 0o600 })
        }
        catch {
            // Without a note, whoever comes after a crash waits until the folder is stale, as proper-lockfile does.
        }
    }

    forget () {
        fs.rmSync(this.#note, { force: true })
    }

    /** Of another table, nobody knows whether its holders live. */
    #text () {
        return `${identity(this.#table)}, ${identity(this.#folder)}`
    }

    /** Whether the folder was made by a holder of this lock. Who asks as its holder knows that the other has ended. */
    recalls () {
        try {
            return fs.readFileSync(this.#note, "utf8") === this.#text()
        }
        catch {
            return false
        }
    }

    /** Whether the folder's maker held this lock and has ended. */
    wasAbandoned () {
        if (!this.recalls())
            return false
        const seen = native.machineSnapshot(this.#handle)
        return typeof seen === "string" && snapshot.parse(seen).held.length === 0 && this.recalls()
    }
}

/** Tells a file or folder from any other, before and after. On a file system without times of birth, it is another one after each change. */
function identity (path) {
    const { dev, ino, birthtimeNs } = fs.statSync(path, { bigint: true })
    return `${dev} ${ino} ${birthtimeNs}`
}

/**
 * Keeps a folder fresh that was just made, from a thread of the addon.
 * @param {(message: string) => void} compromised called once, if the folder stops being that one
 * @returns {(() => void) | undefined} what ends this, also after that; undefined where it cannot be done
 */
function keepFresh (folder, { update, stale }, compromised) {
    if (native.lockFileKeep === undefined)
        return
    const environment = port.enter()
    const number = port.listen({ lose: (error) => compromised(error.message) })
    let isOver = false
    const end = () => {
        if (isOver)
            return
        isOver = true
        port.forget(number)
        native.lockFileLeave(environment, number)
        port.leave()
    }
    if (native.lockFileKeep(environment, number, folder, update, stale) === undefined)
        return end
    end()
}

module.exports = { MachineLock, keepFresh }
