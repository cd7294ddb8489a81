"use strict"

const { process } = require("../realm.js")
const { ANSWER, encode, decode, isFrame } = require("./frames.js")

/*
 * The channel from a cluster worker to its primary, shared by all who speak over it in this process.
 */

/** The last client number given in this process, whichever copy of the package gave it. */
const LAST_CLIENT = Symbol.for("ipc-mutex: last client of the cluster worker")

/** Who hears the frames for a client, by its number. */
const clients = new Map()
let listening = false
let cut = false

function listen () {
    if (listening)
        return
    listening = true
    process.on("internalMessage", (message) => {
        if (!isFrame(message))
            return
        const words = decode(message)
        if (words[0] !== 0)
            clients.get(words[0])?.(words, 1)
        else
            for (const hear of [ ...clients.values() ])
                hear(words, 1)
    })
    process.on("disconnect", end)
}

/** What could not be sent has not been asked, so nothing that was granted may be relied on any more. */
function end () {
    if (cut)
        return
    cut = true
    for (const hear of [ ...clients.values() ])
        hear([ ANSWER.ENDED ], 0)
}

const onsent = (error) => {
    if (error)
        end()
}

/**
 * A new client of the primary.
 * @param {(words: Array<number | string>, from: number) => void} hear gets an array that is a frame from some index on
 * @returns {{ send: (words: Array<number | string | null>) => void, close: () => void }}
 */
function connect (hear) {
    listen()
    const client = process[LAST_CLIENT] = (process[LAST_CLIENT] ?? 0) + 1
    clients.set(client, hear)
    return {
        send (words) {
            if (process.connected && !cut)
                process.send(encode(client, words), onsent)
            else {
                end()
                hear([ ANSWER.ENDED ], 0)
            }
        },
        close () {
            clients.delete(client)
        }
    }
}

module.exports = { connect }
