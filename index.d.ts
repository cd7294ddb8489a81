/// <reference types="node" />
/// <reference lib="esnext.disposable" />
import { EventEmitter } from "node:events"

/**
 * Mutual exclusion that reaches as far as the URL says:
 *
 * | URL | reach |
 * |---|---|
 * | `spm:<id>` | this process with all its worker threads |
 * | `mpm:<id>` | a `cluster` primary and its workers |
 * | `rpm+redis://[x:<password>@]<host>[:<port>]/<id>` | every process that reaches this Redis or Valkey |
 * | `rpm+pgsql://[<user>:<password>@]<host>[:<port>][/<database>]/<id>` | every process that reaches this PostgreSQL |
 * | `rpm+consul://[x:<token>@]<host>[:<port>]/<id>` | every process that reaches this Consul |
 * | `rpm+etcd://[<user>:<password>@]<host>[:<port>][,<host>[:<port>]...]/<id>` | every process that reaches this etcd |
 *
 * User and password are percent-decoded, the id is not. All `rpm` URLs take the query parameters `tls` (`true`, `false` or
 * `insecure`; one of the files alone means `true`), `ca`, `crt` and `key` (paths of PEM files), `ttl` (seconds that a hold lives on
 * the server without renewal, default 10), `connect_timeout` (seconds, default 5) and `max_hold` (seconds after which a hold is
 * ended as lost, default: never); Redis also `user` and `db`, PostgreSQL also `application_name`, `pair` (two integers, the
 * key of a two-key advisory lock instead of the id's own) and `max_waiting` (how many taken locks are waited for at the server at
 * a time, each on a connection, default 8), Consul also `lockdelay` and `readwait` (seconds, defaults 0.5 and 10).
 * PostgreSQL and etcd take several hosts, separated by commas.
 *
 * Requests are served first come, first served, whoever makes them. A mutex is not re-entrant: a second request of the
 * same object waits its turn like any other.
 *
 * Methods never throw, they reject, with a {@link Mutex.MutexError} unless stated otherwise. On a mutex that is not open they
 * reject with `ERR_NOT_OPEN`. An open mutex does not keep the process alive; a pending call does.
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
     * Reads the URL; nothing is connected before {@link Mutex.open}.
     * @throws {Mutex.MutexError} at once, with code `ERR_INVALID_URL`, if the URL cannot be used; the message says what is wrong
     * @throws {TypeError} `ERR_INVALID_ARG_TYPE`: an option of the wrong type
     */
    constructor (url: string | URL, options?: Mutex.MutexOptions)

    /** The lock's name, as in the URL. */
    readonly id: string

    /**
     * Makes the mutex usable; for a server, once it has answered.
     *
     * Rejects with `ERR_ALREADY_OPEN`; for a server with `ERR_CONNECT`, `ERR_AUTH`, `ERR_TLS` or `ERR_SERVER` within
     * `connect_timeout`; in a cluster worker with `ERR_PRIMARY` if the primary has not loaded this package. After a rejection
     * the mutex is closed and may be opened again.
     */
    open (): Promise<void>

    /**
     * Releases what this object holds, rejects its pending calls with `ERR_CLOSED`, and makes it possible to open it again.
     * Handles that are held abort their `signal` with `ERR_CLOSED`; so does a call that got the lock, but has not told its caller yet, or it rejects.
     * Only an `acquire()` without options that took a free lock of `spm:` or `mpm:` at once has resolved by then, and is released like any other hold.
     * A server that does not answer is waited for `connect_timeout` for each step, at most two; what it could not be told ends with its lease.
     */
    close (): Promise<void>

    /**
     * Acquires the lock, waiting as long as it takes; then this object holds it until {@link Mutex.release}.
     *
     * A pending call outlives a restart of the server. Rejects with `ERR_TIMEOUT` or the signal's reason if one of them ends
     * the wait: then the lock is not held and never will be through this call. Rejects with `ERR_DEADLOCK` where
     * `detectDeadlocks` is on and the caller would wait for itself, and with `ERR_AUTH`, `ERR_TLS` or `ERR_SERVER` when the server
     * says what time will not cure.
     */
    acquire (options?: Mutex.AcquireOptions): Promise<void>

    /**
     * Acquires the lock if that is possible at once. `true`: this object holds it, as after {@link Mutex.acquire}. `false`:
     * somebody else holds it or is before us.
     */
    tryAcquire (options?: Mutex.TryOptions): Promise<boolean>

    /**
     * Releases what the oldest call of `acquire()` or `tryAcquire()` got that was not released yet. If there is none, but such a call was
     * made in the same synchronous step, releases what that call is going to get.
     *
     * Rejects with `ERR_NOT_ACQUIRED` if there is nothing to release, and with `ERR_LOCK_LOST` if that hold had ended before: what was done
     * since then was not protected.
     */
    release (): Promise<void>

    /**
     * Like {@link Mutex.acquire}, but gives a handle of its own for the hold, with a fencing token and a signal. Handles are
     * independent of each other and of `acquire()` and `release()`.
     *
     * @example
     * await using lock = await mutex.lock({ timeout: 5000 })
     * await store.write(record, { token: lock.token })
     */
    lock (options?: Mutex.AcquireOptions): Promise<Mutex.Lock>

    /** Like {@link Mutex.lock} if that is possible at once, else `null`. */
    tryLock (options?: Mutex.TryOptions): Promise<Mutex.Lock | null>

    /**
     * Acquires the lock, calls `fn` with it, and releases it in every case. Resolves to what `fn` returns or resolves to.
     *
     * Rejects like {@link Mutex.lock}, without calling `fn`; with the error of `fn`, which gets a failure of the release as its
     * property `releaseError`; or, if only the release fails, with that: `ERR_LOCK_LOST` says that the lock was lost while `fn` ran.
     */
    withLock<T> (fn: (lock: Mutex.Lock) => T | PromiseLike<T>): Promise<T>
    withLock<T> (options: Mutex.AcquireOptions | undefined, fn: (lock: Mutex.Lock) => T | PromiseLike<T>): Promise<T>

    /** Who holds this lock and who waits for it, in the order of the queue, as its coordinator knows it. */
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
        /** Shown to whoever asks by {@link Mutex.query} who holds the lock or waits for it. Default: none. */
        label?: string
        /**
         * Whether a call that would wait for its own caller for ever rejects with `ERR_DEADLOCK`. A heuristic for development: it would
         * rather miss a deadlock than refuse a correct program, and assumes that a hold is released by the code that acquired it. Default `false`,
         * because following the asynchronous context slows every promise of the program down while such a mutex is open. The constructor throws
         * `ERR_FEATURE_UNAVAILABLE_ON_PLATFORM` where the runtime cannot do it (Bun, Deno, `--frozen-intrinsics`).
         */
        detectDeadlocks?: boolean
        /**
         * Says user and password (the token, on Consul) for each new connection to the server, in place of those in the URL: for credentials
         * that change, such as tokens of IAM or Vault. It is called on the thread that opened the mutex, also long after `open()`, when a
         * connection was cut. If it throws or takes longer than `connect_timeout`, that attempt to connect fails. Pass the same function to all
         * mutexes of a server: they share connections only then. Locks on servers only.
         */
        credentials?: () => Credentials | Promise<Credentials>
    }

    export interface Credentials {
        /** Default: the user in the URL. Redis: the ACL user. */
        user?: string
        /** Default: the password in the URL. */
        password?: string
    }

    export interface TryOptions {
        /**
         * Whether others that ask for a shared lock may hold it at the same time. Default `false`. A waiting exclusive request
         * holds back later shared ones.
         */
        shared?: boolean
    }

    export interface AcquireOptions extends TryOptions {
        /** Milliseconds after which the call rejects with `ERR_TIMEOUT`. Default: never. */
        timeout?: number
        /** Ends the wait when it aborts; the call then rejects with the signal's reason. It has no effect on a hold. */
        signal?: AbortSignal
    }

    /**
     * Locks by name: one object for one coordinator, and a lock for each string. Use it for one lock per record.
     *
     * The URL is that of a {@link Mutex} without the id: `spm:`, `mpm:`, `rpm+redis://<host>/`, `rpm+pgsql://<host>/<database>/` and so on, with
     * the same query parameters. The first call opens it; what {@link Mutex.open} would reject with, that call rejects with.
     *
     * A name is any string. A name that can stand in a URL as it is names the same lock as a mutex with that id; in any other name, the
     * characters that cannot are percent-encoded. Two names never share a lock (on PostgreSQL, whose keys have 32 bits, two in
     * 4,000,000,000 do). A name that nobody uses costs nothing, so no name is ever to be closed.
     *
     * Methods never throw, they reject, with {@link MutexError} unless stated otherwise; after {@link LockManager.close} with `ERR_CLOSED`.
     *
     * @example
     * const locks = new LockManager("rpm+redis://localhost/")
     * await locks.withLock(`order:${id}`, async (lock) => {
     *     await ship(id, { signal: lock.signal })
     * })
     */
    export class LockManager extends EventEmitter implements AsyncDisposable {
        /**
         * Reads the URL; nothing is connected before the first call.
         * @throws {MutexError} at once, with code `ERR_INVALID_URL`, if the URL cannot be used or contains an id
         * @throws {TypeError} `ERR_INVALID_ARG_TYPE`: an option of the wrong type
         */
        constructor (url: string | URL, options?: MutexOptions)

        /**
         * Connects now rather than with the first call, for a program that wants to know early that its server answers. Rejects like
         * {@link Mutex.open}; an open manager stays as it is.
         */
        open (): Promise<void>

        /** Like {@link Mutex.lock} for the lock with this name. */
        lock (name: string, options?: AcquireOptions): Promise<Lock>

        /** Like {@link LockManager.lock} if that is possible at once, else `null`. */
        tryLock (name: string, options?: TryOptions): Promise<Lock | null>

        /**
         * Acquires the lock with this name, calls `fn` with it, and releases it in every case. Resolves to what `fn` returns or resolves to.
         * Rejects like {@link Mutex.withLock}.
         */
        withLock<T> (name: string, fn: (lock: Lock) => T | PromiseLike<T>): Promise<T>
        withLock<T> (name: string, options: AcquireOptions | undefined, fn: (lock: Lock) => T | PromiseLike<T>): Promise<T>

        /**
         * Releases all locks of this manager, rejects its pending calls with `ERR_CLOSED`, and ends its use of the connection. Locks that
         * are held abort their `signal` with `ERR_CLOSED`. A second call gives the same promise. A closed manager is not opened again.
         */
        close (): Promise<void>

        /** The same as `close()`. */
        [Symbol.asyncDispose] (): Promise<void>

        /** See {@link Events}. */
        on<Name extends keyof Events> (event: Name, listener: (...args: Events[Name]) => void): this
        once<Name extends keyof Events> (event: Name, listener: (...args: Events[Name]) => void): this
        off<Name extends keyof Events> (event: Name, listener: (...args: Events[Name]) => void): this
    }

    /** One hold of a mutex. Only `lock()`, `tryLock()` and `withLock()` make one. */
    export interface Lock extends AsyncDisposable {
        /** The lock's name, as in the URL. */
        readonly id: string
        /** The name that was given to the {@link LockManager}; for a lock of a {@link Mutex} its id. */
        readonly name: string
        readonly mode: "exclusive" | "shared"
        /**
         * The fencing token: of two grants of one exclusive lock the later one has the larger token, across processes, crashes
         * and restarts of the server, so that a guarded store can refuse whoever comes too late.
         */
        readonly token: bigint
        /** Aborts when the hold ends without `release()`: with `ERR_LOCK_LOST` if it was lost, with `ERR_CLOSED` if the mutex was closed. */
        readonly signal: AbortSignal
        /** Releases the hold; a second call gives the same promise. Rejects with `ERR_LOCK_LOST` if the hold had ended before. */
        release (): Promise<void>
        /** The same as `release()`. */
        [Symbol.asyncDispose] (): Promise<void>
    }

    /** A holder or a waiter. What cannot be known is absent; of a process with ipc-mutex 1.x little is known. */
    export interface LockInfo {
        mode: "exclusive" | "shared"
        /** Holders only. */
        token?: bigint
        host?: string
        pid?: number
        /** The number of the worker thread; 0 is the main thread. */
        thread?: number
        /** What was given as `label`. */
        label?: string
        /** When it was granted, or when the wait began. */
        since?: Date
    }

    export interface Snapshot {
        held: LockInfo[]
        /** In the order in which they will be served. */
        pending: LockInfo[]
    }

    /** What a listener learns about a hold. The token is there if it was asked for, by `lock()` and its like. */
    export interface HoldInfo {
        id: string
        /** Locks of a {@link LockManager} only. */
        name?: string
        mode: "exclusive" | "shared"
        token?: bigint
    }

    /**
     * Name of an event -> arguments of its listeners. Listeners are called soon after what they are told of, before the call that it belongs to goes
     * on, in the asynchronous context (`AsyncLocalStorage`) of the request. What they throw is an uncaught exception and changes nothing about the lock.
     */
    export interface Events {
        /** This object got the lock. */
        acquire: [ hold: HoldInfo ]
        /** This object released it. */
        release: [ hold: HoldInfo ]
        /** A hold of this object ended without `release()`; the code is `ERR_LOCK_LOST`. */
        lost: [ error: MutexError, hold: HoldInfo ]
        /**
         * The connection to the server is gone. Holds last until their lease is over, waiting calls go on waiting, and the server is
         * tried again and again.
         */
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

    /** What a program can act upon; stable. */
    export type MutexErrorCode =
        /** The URL or one of its parameters cannot be used. */
        | "ERR_INVALID_URL"
        /** `open()` on a mutex that is open: `already opened: …`. */
        | "ERR_ALREADY_OPEN"
        /** A call on a mutex that is not open: `still not opened: …`. */
        | "ERR_NOT_OPEN"
        /** `release()` of what is not held: `still not acquired: …`. */
        | "ERR_NOT_ACQUIRED"
        /** The option `timeout` ended the wait. If the server was away then, `cause` is the failure. */
        | "ERR_TIMEOUT"
        /** `close()` ended the call. */
        | "ERR_CLOSED"
        /** The server cannot be reached or does not answer. */
        | "ERR_CONNECT"
        /** The server refuses the user, password, token or permission. */
        | "ERR_AUTH"
        /** The encrypted connection cannot be set up or trusted. */
        | "ERR_TLS"
        /** The server answered, but not with what a lock needs; its own words are the `cause`. */
        | "ERR_SERVER"
        /** A hold ended without `release()`. */
        | "ERR_LOCK_LOST"
        /** No answer from the cluster's primary. */
        | "ERR_PRIMARY"
        /** The caller would wait for itself; only with `detectDeadlocks`. */
        | "ERR_DEADLOCK"

    /** The one error class of this package. Neither message nor `cause` contains a password, token or key. */
    export class MutexError extends Error {
        /** `cause` is an error, or the text of one. */
        constructor (code: MutexErrorCode, message: string, cause?: unknown)
        readonly name: "MutexError"
        readonly code: MutexErrorCode
    }
}

export = Mutex
