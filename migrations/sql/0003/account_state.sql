-- What only the account functions may touch (P3): outgoing tokens, pending e-mail
-- changes, failed attempts and the key that signs contexts.
set local role pandom_owner;
grant references (uuid) on public.auth_users to pandom_definer;
grant usage on type public.userrole to pandom_definer;

set local role pandom_definer;

create table public.outbox (
    id bigint not null generated always as identity,
    kind varchar(40) not null,
    email varchar(255) not null,
    token text,
    created_at timestamptz not null default current_timestamp,
    expires_at timestamptz not null,
    claimed_until timestamptz,
    constraint pk_outbox primary key (id),
    constraint ck_outbox_kind check (
        kind::text in (
            'verify_email', 'already_registered', 'reset_password',
            'confirm_new_email', 'email_changed', 'password_changed'
        )
    )
);

create index idx_outbox_expires on public.outbox (expires_at);

create table public.email_changes (
    user_uuid uuid not null,
    new_email varchar(255) not null,
    token text not null,
    expires_at timestamptz not null,
    constraint pk_email_changes primary key (user_uuid),
    constraint uq_email_changes_token unique (token),
    constraint fk_email_changes_user_uuid_auth_users
        foreign key (user_uuid) references public.auth_users(uuid) on delete cascade,
    constraint ck_email_changes_token check (token ~ '^[0-9a-f]{64}$')
);

create table public.sign_in_attempts (
    email_digest bytea not null,
    address inet not null,
    failures integer not null default 0,
    last_failed_at timestamptz,
    last_succeeded_at timestamptz,
    constraint pk_sign_in_attempts primary key (email_digest, address)
);

create table public.context_key (
    only_row boolean not null default true,
    secret bytea not null,
    enforced boolean not null default false,
    created_at timestamptz not null default current_timestamp,
    constraint pk_context_key primary key (only_row),
    constraint ck_context_key_only_row check (only_row),
    constraint ck_context_key_secret check (octet_length(secret) = 32)
);

insert into public.context_key (secret) values (public.gen_random_bytes(32));
