/// <reference types="node" />
import { EventEmitter } from "node:events"

declare global {
    // TypeScript 5.2 and newer has these two in lib "esnext.disposable".
    interface SymbolConstructor {
        readonly asyncDispose: unique symbol
    }
    interface AsyncDisposable {
        [Symbol.asyncDispose] (): PromiseLike<void>
    }
}

/**
 * A lock. The URL decides which processes share it:
 *
 * | URL | shared by |
 * |---|---|
 * | `spm:<id>` | the threads of this process |
 * | `mpm:<id>` | a `cluster` primary and its workers |
 * | `lpm:<id>[?dir=<folder>]` | unrelated processes of one user on one machine (Linux only so far) |
 * | `rpm+redis://[x:<password>@]<host>[:<port>]/<id>` | all clients of this Redis or Valkey |
 * | `rpm+pgsql://[<user>:<password>@]<host>[:<port>][/<database>]/<id>` | all clients of this PostgreSQL database |
 * | `rpm+consul://[x:<token>@]<host>[:<port>]/<id>` | all clients of this Consul |
 * | `rpm+etcd://[<user>:<password>@]<host>[:<port>][,<host>[:<port>]...]/<id>` | all clients of this etcd |
 *
 * User and password are percent-decoded; the id is not. PostgreSQL and etcd accept several hosts.
 *
 * Query parameters of all servers:
 *
 * - `ttl`: seconds a hold survives without renewal. Default 10.
 * - `connect_timeout`: seconds for connecting, and for each reply that needs no waiting. Default 5.
 * - `max_hold`: seconds after which a hold ends, as lost. Default: never.
 * - `tls` (`true`, `false` or `insecure`), `ca`, `crt`, `key` (paths of PEM files, which imply `tls=true`).
 *
 * Redis also accepts `user` and `db`. PostgreSQL also accepts `application_name`, `pair` and `max_waiting`. Consul also accepts
 * `lockdelay` and `readwait`. See docs/url.md.
 *
 * Requests are served first come, first served. A mutex is not re-entrant: a second request on the same object waits its turn.
 *
 * Methods do not throw; they reject, with a {@link Mutex.MutexError} unless stated otherwise. On a mutex that is not open they
 * reject with `ERR_NOT_OPEN`. While `open()` is under way, requests wait for it, and reject with its error if it fails. An open
 * mutex does not keep the process alive; a pending call does.
 *
 * @example
 * const mutex = new Mutex("rpm+redis://localhost/nightly-report")
 * await mutex.open()
 * await mutex.withLock(async (lock) => {
 *     await writeReport({ signal: lock.signal })
 * })
 * await mutex.close()
 */
declare class Mutex extends EventEmitter implements AsyncDisposable {
    /**
     * Parses the URL. Connects nothing; {@link Mutex.open} does.
     * @throws {Mutex.MutexError} `ERR_INVALID_URL`: the URL cannot be used. The message says what is wrong
     * @throws {TypeError} `ERR_INVALID_ARG_TYPE`: an option has the wrong type
     */
    constructor (url: string | URL, options?: Mutex.MutexOptions)

    /** The name of the lock, as in the URL. */
    readonly id: string

    /**
     * Opens the mutex. For a lock on a server, resolves once the server has answered.
     *
     * Rejects with `ERR_ALREADY_OPEN` on an open mutex; on a server with `ERR_CONNECT`, `ERR_AUTH`, `ERR_TLS` or `ERR_SERVER`,
     * within `connect_timeout`; in a cluster worker with `ERR_PRIMARY` if the primary has not loaded this package. After a rejection
     * the mutex is closed, and you can open it again.
     */
    open (): Promise<void>

    /**
     * Releases what this object holds and rejects its pending calls with `ERR_CLOSED`. You can open the mutex again.
     *
     * The `signal` of a held handle aborts with `ERR_CLOSED`. If a server does not answer, `close()` waits `connect_timeout` for each
     * step, for two steps at most. What it could not release ends with its lease.
     */
    close (): Promise<void>

    /**
     * Acquires the lock. This object holds it until {@link Mutex.release}.
     *
     * The call waits as long as it takes, even across a restart of the server. It rejects with `ERR_TIMEOUT` or the signal's reason
     * if one of them ends the wait; the lock is not held then, and this call never gets it. It rejects with `ERR_AUTH`, `ERR_TLS` or
     * `ERR_SERVER` if the server reports an error that waiting does not fix, and with `ERR_DEADLOCK` if `detectDeadlocks` is on and the
     * caller would wait for itself.
     */
    acquire (options?: Mutex.AcquireOptions): Promise<void>

    /**
     * Acquires the lock if it is free. `true`: this object holds it, as after {@link Mutex.acquire}. `false`: the lock is held, or
     * another request is ahead.
     */
    tryAcquire (options?: Mutex.TryOptions): Promise<boolean>

    /**
     * Releases the oldest hold of this object that `acquire()` or `tryAcquire()` got. If there is none yet, but such a call was made in
     * the same synchronous step, releases the hold that this call is about to get.
     *
     * Rejects with `ERR_NOT_ACQUIRED` if there is nothing to release, and with `ERR_LOCK_LOST` if the hold was lost: work done since the
     * loss was not protected.
     */
    release (): Promise<void>

    /**
     * Acquires the lock like {@link Mutex.acquire}, and resolves to a handle with a fencing token and a signal. Handles do not affect
     * each other, nor `acquire()` and `release()`.
     *
     * @example
     * await using lock = await mutex.lock({ timeout: 5000 })
     * await store.write(record, { token: lock.token })
     */
    lock (options?: Mutex.LockOptions): Promise<Mutex.Lock>

    /** Acquires the lock if it is free, like {@link Mutex.lock}. `null`: the lock is held, or another request is ahead. */
    tryLock (options?: Mutex.TryOptions): Promise<Mutex.Lock | null>

    /**
     * Acquires the lock, calls `fn`, and releases the lock, whether `fn` returns or throws. Resolves to the result of `fn`.
     *
     * Rejects like {@link Mutex.lock}, without calling `fn`. Rejects with the error of `fn`; if the release fails too, its error is the
     * property `releaseError`. If only the release fails, rejects with that error: `ERR_LOCK_LOST` means that the lock was lost while
     * `fn` ran.
     */
    withLock<T> (fn: (lock: Mutex.Lock) => T | PromiseLike<T>): Promise<T>
    withLock<T> (options: Mutex.LockOptions | undefined, fn: (lock: Mutex.Lock) => T | PromiseLike<T>): Promise<T>

    /**
     * Whether this object holds the lock now, by whatever call: its own holds only, without asking anybody. `false` from the call of `release()` on,
     * after a loss, and when the lease is over by the clock. {@link Mutex.query} tells of everybody.
     */
    isHeld (): boolean

    /** Returns the holders of this lock, and its waiters in the order of the queue. */
    query (): Promise<Mutex.Snapshot>

    /** Closes the mutex if it is open. */
    [Symbol.asyncDispose] (): Promise<void>

    /** See {@link Mutex.Events}. */
    on<Name extends keyof Mutex.Events> (event: Name, listener: (...args: Mutex.Events[Name]) => void): this
    once<Name extends keyof Mutex.Events> (event: Name, listener: (...args: Mutex.Events[Name]) => void): this
    off<Name extends keyof Mutex.Events> (event: Name, listener: (...args: Mutex.Events[Name]) => void): this
}

declare namespace Mutex {
    export { Mutex }

    export interface MutexOptions {
        /** Text that {@link Mutex.query} shows for holds and waits of this object. Default: none. */
        label?: string
        /**
         * Reject a call with `ERR_DEADLOCK` if it would wait for its own caller. A heuristic for development: it would rather miss a
         * deadlock than reject a correct call, and it assumes that the code that acquires a lock also releases it. It slows down every
         * promise of the program while such a mutex is open. Default `false`.
         *
         * Where the runtime does not support it (Bun, Deno, `--frozen-intrinsics`), the constructor throws
         * `ERR_FEATURE_UNAVAILABLE_ON_PLATFORM`.
         */
        detectDeadlocks?: boolean
        /**
         * Returns user and password (on Consul: the token) for each new connection to the server, in place of those in the URL. Use
         * it for credentials that expire, such as tokens of IAM or Vault.
         *
         * It runs on the thread that opened the mutex, at `open()` and whenever a connection is opened again. If it throws or takes longer
         * than `connect_timeout`, that attempt to connect fails. Mutexes share connections only if they have the same function.
         * For locks on servers only.
         */
        credentials?: () => Credentials | Promise<Credentials>
    }

    export interface Credentials {
        /** Redis: the ACL user. Default: the user in the URL. */
        user?: string
        /** Default: the password in the URL. */
        password?: string
    }

    export interface TryOptions {
        /** Share the lock with other shared holders. A waiting exclusive request holds back later shared ones. Default `false`. */
        shared?: boolean
    }

    export interface AcquireOptions extends TryOptions {
        /** Milliseconds after which the call rejects with `ERR_TIMEOUT`. Default: never. */
        timeout?: number
        /** Ends the wait when it aborts. The call then rejects with the signal's reason. Does not end a hold. */
        signal?: AbortSignal
    }

    /**
     * Locks by name: one object for one server, and a lock for each string. Use it for one lock per record.
     *
     * The URL is that of a {@link Mutex} without the id: `spm:`, `mpm:`, `rpm+redis://<host>/`, `rpm+pgsql://<host>/<database>/` and so
     * on, with the same query parameters. The first call opens the manager, and rejects as {@link Mutex.open} would.
     *
     * A name is any string. A name that can stand in a URL as it is names the same lock as a mutex with that id. In other names, the
     * characters that cannot are percent-encoded. Two names never share a lock, except on PostgreSQL, whose keys have 32 bits: one pair
     * in 4,000,000,000 does. A name without holders and waiters costs nothing, and you need not close it.
     *
     * Methods do not throw; they reject, with a {@link MutexError} unless stated otherwise, and with `ERR_CLOSED` after
     * {@link LockManager.close}.
     *
     * @example
     * const locks = new LockManager("rpm+redis://localhost/")
     * await locks.withLock(`order:${id}`, async (lock) => {
     *     await ship(id, { signal: lock.signal })
     * })
     */
    export class LockManager extends EventEmitter implements AsyncDisposable {
        /**
         * Parses the URL. Connects nothing before the first call.
         * @throws {MutexError} `ERR_INVALID_URL`: the URL cannot be used, or contains an id
         * @throws {TypeError} `ERR_INVALID_ARG_TYPE`: an option has the wrong type
         */
        constructor (url: string | URL, options?: LockManagerOptions)

        /** Connects now rather than at the first call. Rejects like {@link Mutex.open}. On an open manager, does nothing. */
        open (): Promise<void>

        /** Acquires the lock with this name, like {@link Mutex.lock}. */
        lock (name: string, options?: LockOptions): Promise<Lock>
        /**
         * Acquires the locks with these names: all, or none. They are taken one after the other, in an order that is the same in all processes, so
         * no two calls wait for each other; a name that comes twice counts once. `timeout` and `signal` are for all together. If the
         * call rejects, everything has been released.
         */
        lock (names: readonly string[], options?: LockOptions): Promise<LockSet>

        /** Acquires the lock with this name if it is free, like {@link Mutex.tryLock}. */
        tryLock (name: string, options?: TryOptions): Promise<Lock | null>
        tryLock (names: readonly string[], options?: TryOptions): Promise<LockSet | null>

        /**
         * Acquires the lock with this name, or the locks with these names, calls `fn` with it, and releases it in every case. Resolves to what `fn`
         * returns or resolves to. Rejects like {@link Mutex.withLock}.
         */
        withLock<T> (name: string, fn: (lock: Lock) => T | PromiseLike<T>): Promise<T>
        withLock<T> (name: string, options: LockOptions | undefined, fn: (lock: Lock) => T | PromiseLike<T>): Promise<T>
        withLock<T> (names: readonly string[], fn: (lock: LockSet) => T | PromiseLike<T>): Promise<T>
        withLock<T> (names: readonly string[], options: LockOptions | undefined, fn: (lock: LockSet) => T | PromiseLike<T>): Promise<T>

        /**
         * `request()` of the Web Locks API (`navigator.locks`): acquires the lock, calls `callback` with it, releases it when the result of the callback
         * has settled, and resolves to that result. With `ifAvailable`, `callback` gets `null` if the lock is not to be had at once.
         *
         * If the lock is stolen or lost, or the manager closed, the promise rejects at once with a `DOMException` named `AbortError`, whose `cause` is the
         * {@link MutexError}, while the callback still runs; the callback hears of it by `lock.signal`. Rejects with the reason of `signal`, also if that
         * aborts between the grant and the callback; with a `DOMException` named `NotSupportedError` for a name that begins with a hyphen and for
         * options that do not go together; with a `TypeError` for arguments of the wrong type; and otherwise like {@link Mutex.lock}.
         */
        request<T> (name: string, callback: (lock: Lock) => T | PromiseLike<T>): Promise<T>
        request<T> (name: string, options: RequestOptions & { ifAvailable: true }, callback: (lock: Lock | null) => T | PromiseLike<T>): Promise<T>
        request<T> (name: string, options: RequestOptions & { ifAvailable?: false } | null | undefined,
            callback: (lock: Lock) => T | PromiseLike<T>): Promise<T>
        request<T> (name: string, options: RequestOptions | null | undefined, callback: (lock: Lock | null) => T | PromiseLike<T>): Promise<T>

        /**
         * Whether this manager holds the lock with this name now, by whatever call: its own holds only, without asking anybody. `false` from the call of
         * `release()` on, after a loss, and when the lease is over by the clock. {@link LockManager.query} tells of everybody.
         * @throws {TypeError} `ERR_INVALID_ARG_TYPE`: `name` is not a string
         */
        isHeld (name: string): boolean

        /**
         * `query()` of the Web Locks API: who holds and who waits, for all names that anybody uses, in all processes. On PostgreSQL only for the names
         * that this process uses, or has used a short while ago. On a server with many locks this takes a while; {@link Mutex.query} asks about one.
         */
        query (): Promise<LockManagerSnapshot>

        /**
         * Releases all locks of this manager and rejects its pending calls with `ERR_CLOSED`. The `signal` of each held lock aborts with
         * `ERR_CLOSED`. A second call returns the same promise. A closed manager cannot be opened again.
         */
        close (): Promise<void>

        /** The same as `close()`. */
        [Symbol.asyncDispose] (): Promise<void>

        /** See {@link Events}. */
        on<Name extends keyof Events> (event: Name, listener: (...args: Events[Name]) => void): this
        once<Name extends keyof Events> (event: Name, listener: (...args: Events[Name]) => void): this
        off<Name extends keyof Events> (event: Name, listener: (...args: Events[Name]) => void): this
    }

    export interface LockManagerOptions extends MutexOptions {
        /**
         * How many calls of one manager may wait for one name. A further call of `lock()`, `withLock()` or `request()` rejects with `ERR_QUEUE_FULL`.
         * Default: no limit.
         */
        maxPending?: number
    }

    export interface LockOptions extends AcquireOptions {
        /**
         * Whether to take the lock from whoever holds it, at once and before all who wait: their holds are lost, with `ERR_LOCK_LOST`. Not for a shared
         * lock. On `spm:`, Redis, etcd and Consul; elsewhere the call rejects with a `TypeError` of code `ERR_FEATURE_UNAVAILABLE_ON_PLATFORM`. Default `false`.
         */
        steal?: boolean
    }

    /** The options of {@link LockManager.request}, as the Web Locks API has them. */
    export interface RequestOptions {
        /** Default `"exclusive"`. */
        mode?: "exclusive" | "shared"
        /** Whether to call the callback with `null` rather than to wait. Default `false`. */
        ifAvailable?: boolean
        /** As in {@link LockOptions}; where it is not available, the request rejects with `NotSupportedError`. Default `false`. */
        steal?: boolean
        /** Ends the wait when it aborts. */
        signal?: AbortSignal
    }

    /** A holder or a waiter of a lock of a {@link LockManager}. */
    export interface NamedLockInfo extends LockInfo {
        name: string
        /** The same for all that one thread has: host, process and thread as far as they are known. */
        clientId: string
    }

    export interface LockManagerSnapshot {
        held: NamedLockInfo[]
        /** Those of one name stand in the order in which they will be served. */
        pending: NamedLockInfo[]
    }

    /** The holds of several names, as one. Only a {@link LockManager} makes one. */
    export interface LockSet extends AsyncDisposable {
        /** In the order in which the locks were taken. */
        readonly names: readonly string[]
        readonly mode: "exclusive" | "shared"
        /** The fencing token of each name, see {@link Lock.token}. */
        readonly tokens: ReadonlyMap<string, bigint>
        /** Aborts when one of the holds ends without `release()`, see {@link Lock.signal}; the others stay held until `release()`. */
        readonly signal: AbortSignal
        /** Releases all; a second call gives the same promise. Rejects with `ERR_LOCK_LOST` if one of the holds had ended before. */
        release (): Promise<void>
        /** The same as `release()`. */
        [Symbol.asyncDispose] (): Promise<void>
    }

    /** One hold of a lock. `lock()`, `tryLock()` and `withLock()` create it. */
    export interface Lock extends AsyncDisposable {
        /** The name of the lock, as in the URL. */
        readonly id: string
        /** The name that the {@link LockManager} was given. For a lock of a {@link Mutex}, its id. */
        readonly name: string
        readonly mode: "exclusive" | "shared"
        /**
         * The fencing token. Of two exclusive grants of a lock, the later one has the larger token, across processes, crashes and
         * restarts. Pass it to your store, which rejects tokens smaller than the largest it has seen.
         */
        readonly token: bigint
        /** Aborts when the hold ends without `release()`: with `ERR_LOCK_LOST` if it was lost, with `ERR_CLOSED` if the mutex was closed. */
        readonly signal: AbortSignal
        /** Releases the hold. A second call returns the same promise. Rejects with `ERR_LOCK_LOST` if the hold was lost. */
        release (): Promise<void>
        /** The same as `release()`. */
        [Symbol.asyncDispose] (): Promise<void>
    }

    /** A holder or a waiter. Properties that are not known are absent. */
    export interface LockInfo {
        mode: "exclusive" | "shared"
        /** Holders only. */
        token?: bigint
        host?: string
        pid?: number
        /** The id of the worker thread; 0 is the main thread. */
        thread?: number
        /** The option `label`. */
        label?: string
        /** The time of the grant, or the start of the wait. */
        since?: Date
    }

    export interface Snapshot {
        held: LockInfo[]
        /** In the order in which they will be served. */
        pending: LockInfo[]
    }

    /** A hold, as listeners see it. */
    export interface HoldInfo {
        id: string
        /** Locks of a {@link LockManager} only. */
        name?: string
        mode: "exclusive" | "shared"
        /** Set if the token was fetched, by `lock()`, `tryLock()` or `withLock()`. */
        token?: bigint
    }

    /**
     * Events and the arguments of their listeners.
     *
     * A listener runs soon after the event, before the call it belongs to continues, in the asynchronous context
     * (`AsyncLocalStorage`) of the request. If it throws, that is an uncaught exception; the lock is not affected.
     */
    export interface Events {
        /** This object got the lock. */
        acquire: [ hold: HoldInfo ]
        /** This object released the lock. */
        release: [ hold: HoldInfo ]
        /** A hold of this object ended without `release()`. The code is `ERR_LOCK_LOST`. */
        lost: [ error: MutexError, hold: HoldInfo ]
        /** The connection to the server is gone. Holds last until their leases end, waiting calls keep waiting, and the addon reconnects. */
        disconnect: []
        /** The server is back after a `disconnect`. */
        reconnect: []
    }

    /** A message of the tracing channel `ipc-mutex:acquire`. All messages of one wait are the same object. */
    export interface AcquireMessage {
        readonly id: string
        readonly model: "spm" | "mpm" | "rpm"
        readonly mode: "exclusive" | "shared"
        /** Milliseconds from the call to its end. Set once the wait is over. */
        readonly waitTime?: number
        /** The error or abort reason of the call. Set if the wait failed. */
        readonly error?: unknown
    }

    /** A message of the tracing channel `ipc-mutex:hold`. All messages of one hold are the same object. */
    export interface HoldMessage {
        readonly id: string
        readonly model: "spm" | "mpm" | "rpm"
        readonly mode: "exclusive" | "shared"
        /** Milliseconds that the caller waited for this hold. */
        readonly waitTime: number
        /** Milliseconds from the grant to the end of the hold. Set once the hold is over. */
        readonly holdTime?: number
        /** Set if the token was fetched, by `lock()`, `tryLock()` or `withLock()`. */
        readonly token?: bigint
        /** Set if the hold was lost. */
        readonly error?: MutexError
    }

    /** An error of the function of `withLock()`, whose release failed too. */
    export interface WithReleaseError {
        readonly releaseError?: MutexError
    }

    /** Stable codes. docs/errors.md says what to do about each. */
    export type MutexErrorCode =
        /** The URL or one of its parameters cannot be used. */
        | "ERR_INVALID_URL"
        /** `open()` on an open mutex. */
        | "ERR_ALREADY_OPEN"
        /** A call on a mutex that is not open. */
        | "ERR_NOT_OPEN"
        /** `release()` without a hold. */
        | "ERR_NOT_ACQUIRED"
        /** The option `timeout` ended the wait. If the server was down, `cause` is that failure. */
        | "ERR_TIMEOUT"
        /** `close()` ended the call. */
        | "ERR_CLOSED"
        /** The server cannot be reached or does not answer. */
        | "ERR_CONNECT"
        /** The server rejects the user, password, token or permission. */
        | "ERR_AUTH"
        /** The TLS connection fails or cannot be trusted. */
        | "ERR_TLS"
        /** The server cannot provide locks. Its own message is the `cause`. */
        | "ERR_SERVER"
        /** A hold ended without `release()`. */
        | "ERR_LOCK_LOST"
        /** The cluster's primary does not answer. */
        | "ERR_PRIMARY"
        /** The caller would wait for itself. Only with `detectDeadlocks`. */
        | "ERR_DEADLOCK"
        /** The lock has `maxPending` pending calls already. */
        | "ERR_QUEUE_FULL"

    /** The error class of this package. Neither message nor `cause` contains a password, token or key. */
    export class MutexError extends Error {
        /** `cause` is an error, or the text of one. */
        constructor (code: MutexErrorCode, message: string, cause?: unknown)
        readonly name: "MutexError"
        readonly code: MutexErrorCode
    }
}

export = Mutex
