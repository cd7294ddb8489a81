// A plain HTTP client for the tests' own views of a server: one connection per request, so that none is left over.
import http from "node:http"
import https from "node:https"

/**
 * One HTTP exchange. Resolves with `{ status, headers, body }` (body is text), whatever the status.
 *
 * @param {object} target options for http.request (`socketPath`, or `host` and `port`); with `ca` it is TLS
 * @param {string} method @param {string} path @param {object} [more] `{ body, headers, timeout }`, milliseconds
 */
export function exchange (target, method, path, { body, headers = {}, timeout = 10_000 } = {}) {
    return new Promise((resolve, reject) => {
        const request = (target.ca ? https : http).request({ ...target, method, path, agent: false,
            headers: { ...headers, ...(body === undefined ? {} : { "content-length": Buffer.byteLength(body) }) } }, (response) => {
            const parts = []
            response.on("data", (part) => parts.push(part))
            response.on("error", reject)
            response.on("end", () => {
                // only when the connection is closed may others count the connections
                const done = () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts).toString() })
                if (response.socket.closed)
                    return done()
                response.socket.once("close", done)
                response.socket.destroy()
            })
        })
        const timer = setTimeout(() => request.destroy(new Error(`no answer to ${method} ${path} within ${timeout} ms`)), timeout)
        request.on("close", () => clearTimeout(timer))
        request.on("error", reject)
        request.end(body)
    })
}

/** As `exchange`, with JSON both ways; a status of 400 and above rejects, with `status` on the error. */
export async function json (target, method, path, { body, ...more } = {}) {
    const reply = await exchange(target, method, path, { ...more, body: body === undefined ? undefined : JSON.stringify(body) })
    if (reply.status >= 400)
        throw Object.assign(new Error(`${method} ${path.split("?")[0]}: ${reply.status} ${reply.body.trim()}`), { status: reply.status })
    return reply.body.trim() === "" ? undefined : JSON.parse(reply.body)
}
