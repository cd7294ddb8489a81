"use strict"

// A cluster worker that does what it is told, as a CommonJS program that has loaded the package at once.
const Mutex = require("../../../index.js")
const actor = import("./actor.mjs").then((module) => module.actor(async () => Mutex))

process.on("message", async (order) => {
    // A message that no user has sent is passed on to the primary, which keeps what it does not understand.
    if (order.deed === undefined)
        return process.send(order)
    const answer = await (await actor)(order)
    if (process.connected)
        process.send(answer)
})
process.send({ call: "ready" })
