"use strict"

/*
 * What the two sides of `mpm:` say to each other: the one that asks for locks, and the one that has the lock table.
 *
 * A frame is one flat array of numbers and strings: kind, its operands, kind, its operands, and so on. Whatever the asking side
 * gives a number to (mutexes, requests, calls) has that number in the answers too.
 *
 * Its way through the cluster's channel is what a lock costs, so there it is as small and flat as can be:
 *
 *     { cmd: "NODE_IPC_MUTEX<client>,<word>,<word>..." }                      a frame of numbers
 *     { cmd: "NODE_IPC_MUTEX<client>,<word>,$,<word>...", s: [ string ] }     each $ stands for the next of the strings
 *
 * Node.js emits a message whose `cmd` begins with "NODE_" as "internalMessage" and never as "message", so users do not see it.
 * The client tells apart who speaks in a worker process: its main thread, each of its other threads, and further copies of
 * this package. 0 is everybody.
 */

/** What makes a message ours, and none of the user's. */
const COMMAND = "NODE_IPC_MUTEX"

/** Sides of different versions do not understand each other, and say so. */
const VERSION = 3

/** What is asked, and with which operands. */
const ASK = Object.freeze({
    HELLO:   0, // version; comes first and once
    OPEN:    1, // mutex, id, label or null, thread
    REQUEST: 2, // mutex, request, flags
    CANCEL:  3, // request
    RELEASE: 4, // request
    QUERY:   5, // call, id; null for all locks
    CLOSE:   6, // call, mutex
    END:     7, // frees everything of the client
    MARKED:  8  // mutex, request or 0: a hold of the client is over, as it has marked in the memory; not answered
})

/** What is answered. */
const ANSWER = Object.freeze({
    READY:     0,  // unasked and to nobody in particular: whoever said HELLO in vain may say it again
    WELCOME:   1,  // version; if that is the asker's: owner, and where it finds the locks' words: pid, file, twice a secret, sign; or zeros
    OPENED:    2,  // mutex, handle, place of the lock's word or 0
    GRANTED:   3,  // request
    FENCED:    4,  // request, token: granted to a request that wants a fencing token, in decimal digits
    BUSY:      5,  // request
    RELEASED:  6,  // request
    REFUSED:   7,  // request: it is no hold of this client
    WITHDRAWN: 8,  // request: it has or will have no lock
    SNAPSHOT:  9,  // call, text for lib/snapshot.js
    CLOSED:    10, // call
    UNOPENED:  11, // mutex: the table has no room for it
    FULL:      12, // request: the same
    ENDED:     13  // never travels to a worker: the channel is cut
})

/** The flags of a request. */
const SHARED = 1, WAIT = 2

/** The numbers of requests that want a fencing token are odd, so that the table's side need not remember it. */
const isFenced = (request) => (request & 1) === 1

/**
 * The message that carries a frame.
 * @param {number} client
 * @param {Array<number | string | null>} words
 */
function encode (client, words) {
    let strings
    for (let at = 0; at < words.length; at++) {
        if (typeof words[at] !== "number") {
            (strings ??= []).push(words[at])
            words[at] = "$"
        }
    }
    const cmd = `${COMMAND}${client},${words.join()}`
    return strings === undefined ? { cmd } : { cmd, s: strings }
}

/** Whether a message is one of ours. */
const isFrame = (message) => message.cmd.startsWith(COMMAND)

const ZERO = 48, NINE = 57, DOLLAR = 36

/**
 * The client and the words of a message, in one array. Nonsense gives nonsense, but never an error.
 * @returns {Array<number | string | null>}
 */
function decode ({ cmd, s }) {
    const words = []
    let strings = 0, word = 0
    for (let at = COMMAND.length; at < cmd.length; at++) {
        const code = cmd.charCodeAt(at)
        if (code >= ZERO && code <= NINE)
            word = word * 10 + code - ZERO
        else if (code === DOLLAR)
            word = s?.[strings++]
        else {
            words.push(word)
            word = 0
        }
    }
    words.push(word)
    return words
}

module.exports = { VERSION, ASK, ANSWER, SHARED, WAIT, isFenced, encode, decode, isFrame }
