-- Whether the server's log is archived, and how old the newest backup is, as the trail says.
select
    case
        when a.last_failed_time > coalesce(a.last_archived_time, '-infinity')
            then a.last_failed_wal
    end as failing,
    (
        select now() - max(s.timestamp) from public.security_logs as s
        where s.event_type = 'backup_made'
    ) as backup_age
from pg_catalog.pg_stat_archiver as a;
