-- What every script here begins with: the names of the keys, and how the values in them are written.
--
-- KEYS[1] MAIN     string, the lock as 1.1.2 knows it: exists exactly while somebody holds the lock, and runs out with
--                  the hold. "ipc-mutex:x <owner> <token> <info>" is an exclusive hold of ours, "ipc-mutex:s" stands for
--                  the readers, anything else is a 1.1.2 process
-- KEYS[2] QUEUE    sorted set, owner -> ticket: who waits, first come first served
-- KEYS[3] BEATS    sorted set, owner -> until when (ms) the waiter counts as alive; renewed like a hold
-- KEYS[4] READERS  sorted set, owner -> until when (ms) the shared hold lasts
-- KEYS[5] INFO     hash, owner -> "<mode> <fenced> <ttl> <channel> <token> <info>" of each reader; for a waiter <token> is <asked>
-- KEYS[6] COUNTER  string, the last fencing token
-- KEYS[7] TURNS    string, "<gap until> <next gap due> <interval>" (ms): when 1.1.2 processes get a chance, see legacy.lua
--
-- <mode> is x or s, <fenced> 1 or 0, <ttl> milliseconds, <channel> that of the waiter's own connection, <token> digits or -, <asked> when the
-- waiter asked last (microseconds), <info> JSON for query.lua. All times are the
-- server's own. Every key runs out by itself when nobody renews it. A script is atomic on the server. Its first write is one that a server
-- without free memory still allows wherever that frees or keeps a hold (DEL, ZREM, PEXPIRE): it allows all that comes after that.

local MAIN, QUEUE, BEATS, READERS, INFO, COUNTER, TURNS = unpack(KEYS)
local SHARED = 'ipc-mutex:s'
local EXCLUSIVE = 'ipc-mutex:x '
local ENTRY = '^(%a) (%d) (%d+) (%S+) (%S+) (.*)$'
-- How long the last token is remembered: longer than a server's clock is ever set back.
local REMEMBER = '86400000'

local call = redis.call

local function text (number)
    return string.format('%.0f', number)
end

-- Microseconds on the server's clock.
local function read_clock ()
    local clock = call('TIME')
    return clock[1] * 1000000 + clock[2]
end

-- The next token, to be written down by remember(): larger than all before it, also than those of a counter that was lost, since the
-- server's clock is ahead of them.
local function mint (fenced, micros)
    if fenced ~= '1' then
        return '-'
    end
    local last = tonumber(call('GET', COUNTER) or '0') or 0
    return text(math.max(last + 1, micros))
end

local function remember (token)
    if token ~= '-' then
        call('SET', COUNTER, token, 'PX', REMEMBER)
    end
end

local function hold (owner, token, ttl, info)
    call('SET', MAIN, EXCLUSIVE .. owner .. ' ' .. token .. ' ' .. info, 'PX', ttl)
end
