-- The audit trail (T3, T5, C2, I1): append-only, partitioned by month.
set local role pandom_trail;

create table public.audit_logs (
    id bigint not null generated always as identity,
    user_uuid uuid,
    event_type varchar(100) not null,
    timestamp timestamptz not null default current_timestamp,
    details jsonb not null default '{}',
    ip_address inet,
    user_agent text,
    severity varchar(20) not null default 'info',
    epoch integer not null default 1,
    tx xid8 not null default pg_current_xact_id(),
    constraint pk_audit_logs primary key (id, timestamp),
    constraint ck_audit_logs_severity
        check (severity::text in ('info', 'warning', 'error', 'critical')),
    constraint ck_audit_logs_details check (jsonb_typeof(details) = 'object')
) partition by range (timestamp);

create index idx_audit_logs_user_time on public.audit_logs (user_uuid, timestamp desc);
create index idx_audit_logs_event_time on public.audit_logs (event_type, timestamp);
create index idx_audit_logs_time on public.audit_logs (timestamp);

create table public.security_logs (
    id bigint not null generated always as identity,
    user_uuid uuid,
    event_type varchar(100) not null,
    timestamp timestamptz not null default current_timestamp,
    details jsonb not null default '{}',
    ip_address inet,
    user_agent text,
    severity varchar(20) not null default 'info',
    epoch integer not null default 1,
    tx xid8 not null default pg_current_xact_id(),
    constraint pk_security_logs primary key (id, timestamp),
    constraint ck_security_logs_severity
        check (severity::text in ('info', 'warning', 'error', 'critical')),
    constraint ck_security_logs_details check (jsonb_typeof(details) = 'object')
) partition by range (timestamp);

create index idx_security_logs_user_time on public.security_logs (user_uuid, timestamp desc);
create index idx_security_logs_event_time on public.security_logs (event_type, timestamp);
create index idx_security_logs_time on public.security_logs (timestamp);

create table public.audit_logs_default partition of public.audit_logs default;
create table public.security_logs_default partition of public.security_logs default;

create table public.trail_retention (
    log text not null,
    months integer not null default 12,
    months_ahead integer not null default 3,
    constraint pk_trail_retention primary key (log),
    constraint ck_trail_retention_log check (log in ('audit_logs', 'security_logs')),
    constraint ck_trail_retention_months check (months >= 1 and months_ahead >= 1)
);

insert into public.trail_retention (log) values ('audit_logs'), ('security_logs');
