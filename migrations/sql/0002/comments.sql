-- What every table, column, constraint and index is for: auditors read the catalog (C6).
set local role pandom_trail;

comment on table public.audit_logs is
'The audit trail: append-only, one partition per month. T3 P5';
comment on column public.audit_logs.id is
'Number of the event; order of writing.';
comment on column public.audit_logs.user_uuid is
'Who acted; kept when the user is deleted, so no foreign key. C2';
comment on column public.audit_logs.event_type is
'What happened.';
comment on column public.audit_logs.timestamp is
'When the transaction began; the partition''s key.';
comment on column public.audit_logs.details is
'What exactly: subject, table, changed columns.';
comment on column public.audit_logs.ip_address is
'The client''s address, as the application stated it.';
comment on column public.audit_logs.user_agent is
'The client''s user agent, as the application stated it.';
comment on column public.audit_logs.severity is
'info, warning, error or critical.';
comment on column public.audit_logs.epoch is
'Epoch of the chain; a restore begins a new one.';
comment on column public.audit_logs.tx is
'The transaction that wrote it; the chain''s order.';
comment on constraint ck_audit_logs_details on public.audit_logs is
'Details are a JSON object. T3';
comment on constraint ck_audit_logs_severity on public.audit_logs is
'The four severities. T3';
comment on constraint pk_audit_logs on public.audit_logs is
'One row per event. T3';
comment on index public.idx_audit_logs_event_time is
'Events of a kind in a time: monitoring. I1 O1';
comment on index public.idx_audit_logs_time is
'Everything in a time: monitoring, export. I1 O2';
comment on index public.idx_audit_logs_user_time is
'A user''s newest events. I1 I3';

comment on table public.security_logs is
'The trail of what concerns security: like audit_logs. T5 P5';
comment on column public.security_logs.id is
'Number of the event; order of writing.';
comment on column public.security_logs.user_uuid is
'Who acted; kept when the user is deleted, so no foreign key. C2';
comment on column public.security_logs.event_type is
'What happened.';
comment on column public.security_logs.timestamp is
'When the transaction began; the partition''s key.';
comment on column public.security_logs.details is
'What exactly: subject, table, changed columns.';
comment on column public.security_logs.ip_address is
'The client''s address, as the application stated it.';
comment on column public.security_logs.user_agent is
'The client''s user agent, as the application stated it.';
comment on column public.security_logs.severity is
'info, warning, error or critical.';
comment on column public.security_logs.epoch is
'Epoch of the chain; a restore begins a new one.';
comment on column public.security_logs.tx is
'The transaction that wrote it; the chain''s order.';
comment on constraint ck_security_logs_details on public.security_logs is
'Details are a JSON object. T5';
comment on constraint ck_security_logs_severity on public.security_logs is
'The four severities. T5';
comment on constraint pk_security_logs on public.security_logs is
'One row per event. T5';
comment on index public.idx_security_logs_event_time is
'Events of a kind in a time: monitoring. I1 O1';
comment on index public.idx_security_logs_time is
'Everything in a time: monitoring, export. I1 O2';
comment on index public.idx_security_logs_user_time is
'A user''s newest events. I1 I3';

comment on table public.trail_retention is
'How many months the trail is kept; owned by pandom_trail. P5';
comment on column public.trail_retention.log is
'The table.';
comment on column public.trail_retention.months is
'Whole months kept before a partition may go.';
comment on column public.trail_retention.months_ahead is
'Months made ahead by the janitor.';
comment on constraint ck_trail_retention_log on public.trail_retention is
'The two tables of the trail. P5';
comment on constraint ck_trail_retention_months on public.trail_retention is
'At least a month is kept, and one is made ahead. P5';
comment on constraint pk_trail_retention on public.trail_retention is
'One row per table. P5';
