// A cluster worker that does what it is told, as an ES module.
import { actor } from "./actor.mjs"

const act = actor(async () => (await import("../../../index.mjs")).default)
process.on("message", async (order) => {
    // A message that no user has sent is passed on to the primary, which keeps what it does not understand.
    if (order.deed === undefined)
        return process.send(order)
    const answer = await act(order)
    if (process.connected)
        process.send(answer)
})
process.send({ call: "ready" })
