-- Limits of sizes and rates: CHECKs, settings, and the calls that are counted.
set local role pandom_owner;

alter table public.account_settings
add column event_window interval not null default '00:01:00',
add column events_per_user integer not null default 120,
add column events_per_address integer not null default 120,
add column events_per_second integer not null default 500,
add column request_window interval not null default '00:10:00',
add column registrations_per_address integer not null default 20,
add column registrations_per_server integer not null default 300,
add column resets_per_address integer not null default 20,
add column resets_per_server integer not null default 600,
add column verifications_per_address integer not null default 60,
add column verifications_per_server integer not null default 1000,
add column refreshes_per_user integer not null default 60,
add column message_window interval not null default '01:00:00',
add column messages_per_mailbox integer not null default 5,
add column transaction_limit interval not null default '00:10:00';

alter table public.account_settings add constraint ck_account_settings_rates check (
    event_window >= interval '1 second' and event_window <= interval '1 day'
    and request_window >= interval '1 second' and request_window <= interval '1 day'
    and message_window >= interval '1 second' and message_window <= interval '1 day'
    and transaction_limit >= interval '1 minute'
    and least(
        events_per_user,
        events_per_address,
        events_per_second,
        registrations_per_address,
        registrations_per_server,
        resets_per_address,
        resets_per_server,
        verifications_per_address,
        verifications_per_server,
        refreshes_per_user,
        messages_per_mailbox
    ) >= 0
) not valid;
alter table public.user_profiles add constraint ck_user_profiles_metadata_size check (
    octet_length(metadata::text) <= 65536
) not valid;
alter table public.user_profiles add constraint ck_user_profiles_tags check (
    cardinality(tags) <= 100 and octet_length(array_to_string(tags, ',')) <= 8192
) not valid;
alter table public.auth_users add constraint ck_auth_users_password_hash_encrypted check (
    octet_length(password_hash_encrypted) <= 1024
) not valid;
alter table public.sessions add constraint ck_sessions_user_agent check (
    length(user_agent) <= 512
) not valid;

comment on constraint ck_account_settings_rates on public.account_settings is
'Rates that make sense: 0 is no limit, no window is longer than a day. P3 P5';
comment on constraint ck_user_profiles_metadata_size on public.user_profiles is
'Metadata has at most 65536 bytes as JSON text. T2 P5';
comment on constraint ck_user_profiles_tags on public.user_profiles is
'At most 100 tags, together at most 8192 bytes. T2 P5';
comment on constraint ck_auth_users_password_hash_encrypted on public.auth_users is
'An encrypted hash is as long as one, and no place for other data. P1';
comment on constraint ck_sessions_user_agent on public.sessions is
'A user agent has at most 512 characters. T4';
comment on column public.account_settings.event_window is
'In which events of one user or address are counted.';
comment on column public.account_settings.events_per_user is
'Events that one user may record within event_window.';
comment on column public.account_settings.events_per_address is
'Events that one address may record without a user within event_window.';
comment on column public.account_settings.events_per_second is
'Events that applications may record on the whole server in a second.';
comment on column public.account_settings.request_window is
'In which registrations, resets, verifications and refreshes are counted.';
comment on column public.account_settings.registrations_per_address is
'Within request_window.';
comment on column public.account_settings.registrations_per_server is
'Within request_window; no sign-ins.';
comment on column public.account_settings.resets_per_address is
'Password resets within request_window.';
comment on column public.account_settings.resets_per_server is
'Password resets within request_window.';
comment on column public.account_settings.verifications_per_address is
'Tokens of mails that one address may try within request_window.';
comment on column public.account_settings.verifications_per_server is
'Within request_window.';
comment on column public.account_settings.refreshes_per_user is
'New sessions by refresh token that one user may open within request_window.';
comment on column public.account_settings.message_window is
'In which messages to one mailbox are counted.';
comment on column public.account_settings.messages_per_mailbox is
'Messages of one kind that a mailbox gets within message_window.';
comment on column public.account_settings.transaction_limit is
'How long a client''s transaction may be open before its session is ended.';

-- What every sign-in costs is looked up by it. A table of accounts is small enough.
-- squawk-ignore require-concurrent-index-creation
create index idx_auth_users_hash_cost on public.auth_users (substr(password_hash, 5, 2))
where password_hash <> '*';
comment on index public.idx_auth_users_hash_cost is
'The highest cost of a hash: what every sign-in costs. P3';

set local role pandom_definer;

create unlogged table public.recent_calls (
    id bigint generated always as identity not null,
    kind text not null,
    caller text not null,
    called_at timestamptz not null,
    constraint pk_recent_calls primary key (kind, caller, called_at, id)
);

create index idx_recent_calls_kind on public.recent_calls (kind, called_at);
-- squawk-ignore require-concurrent-index-creation
create index idx_outbox_mailbox on public.outbox (lower(email), kind);

comment on table public.recent_calls is
'Calls that count towards a rate: unlogged, empty after a crash. P3 P5';
comment on column public.recent_calls.id is
'Its number.';
comment on column public.recent_calls.kind is
'What was called.';
comment on column public.recent_calls.caller is
'A user, an address, a mailbox; or that no address was stated.';
comment on column public.recent_calls.called_at is
'When.';
comment on constraint pk_recent_calls on public.recent_calls is
'One row per call; counts the calls of one caller. P3';
comment on index public.idx_recent_calls_kind is
'Counts the calls on the whole server. P3';
comment on index public.idx_outbox_mailbox is
'Finds the older message that a new one replaces. P3';
