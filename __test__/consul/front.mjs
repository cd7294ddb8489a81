// A load balancer between clients and a Consul of the tests.
import { createServer, request } from "node:http"

/**
 * Starts it on a free port, and ends it with test `t`.
 *
 * @param {(asked: { method: string, url: string }, reply: { status: number, headers: object, body: Buffer | string }) => void} change may change
 *   what the server has answered before the client gets it
 * @returns {Promise<number>} the port
 */
export async function startFront (t, server, change) {
    const front = createServer((asked, answer) => {
        const { method, url, headers } = asked
        const onward = request({ host: "127.0.0.1", port: server.port, method, path: url, headers, agent: false }, (got) => {
            const parts = []
            got.on("data", (part) => parts.push(part))
            got.on("error", () => answer.destroy())
            got.on("end", () => {
                const reply = { status: got.statusCode, headers: got.headers, body: Buffer.concat(parts) }
                change({ method, url }, reply)
                for (const [ name, value ] of Object.entries(reply.headers))
                    if (![ "content-length", "connection", "transfer-encoding" ].includes(name))
                        answer.setHeader(name, value)
                answer.writeHead(reply.status).end(reply.body)
            })
        })
        onward.on("error", () => answer.destroy())
        answer.on("close", () => onward.destroy())
        asked.pipe(onward)
    })
    await new Promise((resolve) => front.listen(0, "127.0.0.1", resolve))
    t.after(() => {
        front.closeAllConnections?.()
        return new Promise((resolve) => front.close(resolve))
    })
    return front.address().port
}
