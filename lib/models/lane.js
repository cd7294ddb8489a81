"use strict"

const { connect } = require("node:net")
const native = require("../native.js")
const port = require("../port.js")
const { now, setImmediate } = require("../timing.js")

/*
 * The express lane's connections: this thread's own socket to a server, on which calls for locks that nobody else in this process
 * wants go without a change of threads. The addon makes the bytes and reads the answers (src/runtime/express); this only moves them. Whatever goes
 * wrong here, the addon hears that the connection is over and carries on by its own.
 *
 * This side alone owns the life of a connection. While `line` is not 0, there is a socket that can be written to and the addon knows the number;
 * both end in `end()`, together. Each call to the addon names the line that it may use, so bytes only come for a connection that is there.
 */

/** Which way a call went; text means: write this at once. The numbers are those of src/binding/remote.rs. */
const TOGETHER = 0, NO_LINE = 1
/** What an answer means; the numbers are those of src/binding/lane.rs. */
const GRANTED = 0, FENCED = 16
/** Added to a number of answers: there is something to write. */
const DEPARTING = 4096

/** A connection that was silent for so long is closed (milliseconds): it may be dead, and the next call must not find that out. */
const IDLE = 30_000
/** The first and the longest pause between a connection that ended and the next (milliseconds). */
const PAUSE = 100, LONGEST_PAUSE = 10_000

/** For tests: everything goes by the addon's own connections. */
const isOff = process.env.IPC_MUTEX_LANE === "off"

const lanes = new Map()
const answers = new Float64Array(512)
const tokens = new BigUint64Array(256)

class Lane {
    constructor (number) {
        this.number    = number
        /** How many open mutexes use it. */
        this.users     = 0
        this.socket    = undefined
        /** The addon's number of the connection; 0 while there is none. */
        this.line      = 0
        this.pause     = PAUSE
        this.notBefore = 0
        this.flushing  = false
        this.flush     = () => {
            this.flushing = false
            if (this.line === 0)
                return
            const text = native.laneDeparting(this.line)
            if (text !== "")
                this.socket.write(text, "latin1")
        }
    }

    /** @param {string | number} way what the addon said to a call */
    go (way) {
        if (typeof way === "string")
            this.socket.write(way, "latin1")
        else if (way === NO_LINE)
            this.connect()
        else if (way === TOGETHER && !this.flushing) {
            this.flushing = true
            setImmediate(this.flush)
        }
    }

    /** Opens the connection if there is none; nobody waits for it. */
    connect () {
        if (isOff || this.socket !== undefined || now() < this.notBefore)
            return
        const address = native.laneAddress(this.number)
        if (address === undefined)
            return
        const onread = {
            buffer: Buffer.allocUnsafeSlow(16_384),
            callback: (count, bytes) => {
                if (this.socket === socket)
                    this.read(count, bytes)
                return true
            }
        }
        let socket
        try {
            socket = connect({ ...address, noDelay: true, onread })
        }
        catch {
            this.notBefore = Infinity // This program may not connect by itself.
            return
        }
        this.socket = socket
        socket.unref()
        const ended = () => {
            if (this.socket === socket)
                this.end()
        }
        socket.setTimeout(IDLE, ended)
        socket.on("connect", () => {
            if (this.socket !== socket)
                return
            const opened = native.laneConnected(port.attach(), this.number)
            if (opened === undefined)
                return this.end()
            this.line = opened.line
            socket.write(opened.greeting, "latin1")
        })
        socket.on("error", ended)
        socket.on("end", ended)
        socket.on("close", ended)
    }

    read (count, bytes) {
        const { line } = this
        let found = native.laneRead(port.attach(), line, bytes, count, answers, tokens)
        for (;;) {
            if (found >= DEPARTING) {
                found -= DEPARTING
                this.flush()
            }
            const number = found < 0 ? -found - 1 : found
            for (let at = 0; at < number; at++)
                tell(answers[2 * at + 1], answers[2 * at], at)
            // A listener that heard an answer may have closed the last mutex, and opened another.
            if (this.line !== line)
                return
            if (found < 0)
                return this.end()
            if (number > 0)
                this.pause = PAUSE
            if (number < tokens.length)
                return
            found = native.laneRead(port.attach(), line, bytes, 0, answers, tokens)
        }
    }

    /** The connection is over: the addon hears so before anybody can ask for anything on it. */
    end () {
        const { socket, line } = this
        this.socket = undefined
        this.line = 0
        if (line !== 0)
            native.laneClosed(line)
        socket?.destroy()
        this.notBefore = now() + this.pause
        this.pause = Math.min(2 * this.pause, LONGEST_PAUSE)
    }

    /** A mutex was closed. */
    leave () {
        if (--this.users === 0) {
            lanes.delete(this.number)
            this.end()
        }
    }
}

function tell (kind, call, at) {
    try {
        if (kind === FENCED)
            port.answer(GRANTED, call, tokens[at])
        else
            port.answer(kind, call)
    }
    catch (error) {
        // Thrown by a user's event listener: it is uncaught there as anywhere, and the next answer is still told.
        process.nextTick(() => { throw error })
    }
}

/**
 * The lane with this number, for one more mutex.
 * @returns {Lane | undefined} undefined for 0
 */
function enter (number) {
    if (number === 0)
        return undefined
    let lane = lanes.get(number)
    if (lane === undefined)
        lanes.set(number, lane = new Lane(number))
    lane.users++
    return lane
}

module.exports = { enter }
