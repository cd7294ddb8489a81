"use strict"

const nodeFs = require("node:fs")
const path = require("node:path")
const { MachineLock, keepFresh } = require("../../lock-file.js")
const { failure, folderOf, refresh } = require("./steps.js")

/** The locks of this thread, by the path of the file. */
const locks = new Map()

/** A lock that is being taken, and then held. */
class Held {
    #stop = () => {}

    constructor (file, options, run) {
        this.file    = file
        this.folder  = folderOf(file, options)
        this.options = options
        this.run     = run
        this.isOver  = false
        /** Of a file system that the program brings along, nobody else of the machine knows. */
        this.machine = options.fs === nodeFs ? MachineLock.open(path.resolve(this.folder)) : undefined
        /** The time of the folder. */
        this.mtime   = undefined
    }

    /** The folder is made. */
    begin () {
        locks.set(this.file, this)
        watchExit()
        this.machine?.remember()
        const { options, folder } = this
        const stop = options.fs === nodeFs ? keepFresh(folder, options, (message) => this.#compromised(new Error(message))) : undefined
        if (stop === undefined)
            this.#updateAfter(options.update, performance.now())
        else
            this.#stop = stop
    }

    /** Stops keeping the folder fresh, before it is removed. Whoever waits is let in by `left`. */
    leave () {
        this.isOver = true
        this.#stop()
        if (locks.get(this.file) === this)
            locks.delete(this.file)
    }

    left () {
        this.machine?.forget()
        this.machine?.close()
    }

    #compromised (error) {
        if (this.isOver)
            return
        this.leave()
        this.left()
        const told = Object.assign(error, { code: "ECOMPROMISED" })
        // What the callback throws, as the default one does, is uncaught.
        queueMicrotask(() => this.options.onCompromised(told))
    }

    /** As proper-lockfile does it: with the program's own event loop and file system. */
    #updateAfter (delay, updated) {
        const timer = setTimeout(async () => {
            try {
                await this.run(refresh(this), this.options.fs)
                updated = performance.now()
                if (!this.isOver)
                    this.#updateAfter(this.options.update, updated)
            }
            catch (error) {
                if (this.isOver)
                    return
                if (error.code === "ENOENT" || error.code === "ECOMPROMISED" || updated + this.options.stale < performance.now())
                    this.#compromised(error)
                else
                    this.#updateAfter(1000, updated)
            }
        }, delay)
        timer.unref?.()
        this.#stop = () => clearTimeout(timer)
    }
}

let isWatching = false

/** What is still held when the process exits is given back. */
function watchExit () {
    if (isWatching)
        return
    isWatching = true
    process.on("exit", () => {
        for (const { folder, options, machine } of locks.values())
            try {
                options.fs.rmdirSync(folder)
                machine?.forget()
            }
            catch {
                // It is stale after a while.
            }
    })
}

/** The lock of a file. @throws `ENOTACQUIRED` */
function find (file) {
    const lock = locks.get(file)
    if (lock === undefined)
        throw failure("ENOTACQUIRED", "Lock is not acquired/owned by you")
    return lock
}

module.exports = { Held, find, locks }
