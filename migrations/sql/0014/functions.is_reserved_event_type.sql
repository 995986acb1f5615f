-- The event types that only the database writes.
--
-- A test compares the list with what functions write. An application that could record
-- one of these would forge evidence.
set local role pandom_trail;

create or replace function public.is_reserved_event_type(event_type text)
returns boolean
language sql
immutable
strict
parallel safe
set search_path = ''
return lower(event_type) in (
    'insert', 'update', 'delete', 'truncate',
    'user_registered', 'registration_repeated',
    'user_verified', 'user_deactivated', 'user_reactivated', 'user_deleted',
    'login_succeeded', 'login_failed', 'login_throttled',
    'session_refreshed', 'session_ended', 'sessions_expired',
    'password_changed', 'password_reset_requested', 'password_reset',
    'email_change_requested', 'email_changed', 'role_changed',
    'context_rejected', 'context_key_rotated',
    'partition_created', 'partition_drained', 'partition_exported', 'partition_dropped',
    'retention_changed', 'trail_restored',
    'backup_made', 'dump_made', 'drill_passed', 'drill_failed'
);

comment on function public.is_reserved_event_type(text) is
'Whether only the database may write this event type.';
