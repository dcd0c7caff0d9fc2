// A small controller of one DRAM channel that serves the requests of each bank in order.
//
// Every bank has a machine (closed, activating, open, precharging) and a queue of DEPTH requests, of which the first is
// looked at. One command goes out per cycle: RD or WR of the bank whose turn it is, else refresh (PREA when one is
// pending, then REF), else ACT or PRE of the next bank that may. A row that was opened serves at least one request
// before a refresh. Commands are 0 ACT, 1 PRE, 2 PREA, 3 RD, 4 WR, 5 REF, and depend on registers and data_ready only.
//
// `now` counts cycles from the reset on. A request taken in cycle c has its first command in c + 1 at the earliest; a
// read is done CL + BURST cycles after its RD, a write with its WR. While data_ready is 0 there is no RD and no WR.
// Banks of a group lie side by side: the upper bits of a bank's number are its group. T_REFI = 0: no refresh.
//
// BANKS and DEPTH are powers of two from 2 on, GROUPS is a power of two; BURST and T_RFC are at least 1.
module dram_ctl #(
    parameter integer BANKS = 8,
    parameter integer GROUPS = 1,
    parameter integer ROW_BITS = 14,
    parameter integer COLUMN_BITS = 7,
    parameter integer TAG_BITS = 8,
    parameter integer DEPTH = 4,
    parameter integer CL = 10,
    parameter integer CWL = 8,
    parameter integer BURST = 4,
    parameter integer T_RCD = 10,
    parameter integer T_RP = 10,
    parameter integer T_RAS = 28,
    parameter integer T_RC = 38,
    parameter integer T_RTP = 6,
    parameter integer T_WR = 12,
    parameter integer T_WTR_S = 6,
    parameter integer T_WTR_L = 6,
    parameter integer T_CCD_S = 4,
    parameter integer T_CCD_L = 4,
    parameter integer T_RRD_S = 6,
    parameter integer T_RRD_L = 6,
    parameter integer T_FAW = 32,
    parameter integer T_RFC = 128,
    parameter integer T_REFI = 6240
) (
    input  wire                       clk,
    input  wire                       rst,

    input  wire                       req_valid,
    output wire                       req_ready,
    input  wire [$clog2(BANKS)-1:0]   req_bank,
    input  wire [ROW_BITS-1:0]        req_row,
    input  wire [COLUMN_BITS-1:0]     req_column,
    input  wire                       req_write,
    input  wire [TAG_BITS-1:0]        req_tag,

    input  wire                       data_ready,

    output wire                       cmd_valid,
    output wire [2:0]                 cmd,
    output wire [$clog2(BANKS)-1:0]   cmd_bank,
    output wire [ROW_BITS-1:0]        cmd_row,
    output wire [COLUMN_BITS-1:0]     cmd_column,
    output wire [TAG_BITS-1:0]        cmd_tag,

    output wire                       done_valid,
    output wire [TAG_BITS-1:0]        done_tag,

    output reg  [31:0]                now,
    output reg  [31:0]                cnt_act,
    output reg  [31:0]                cnt_pre,
    output reg  [31:0]                cnt_prea,
    output reg  [31:0]                cnt_rd,
    output reg  [31:0]                cnt_wr,
    output reg  [31:0]                cnt_ref,
    output reg  [31:0]                cnt_hit,
    output reg  [31:0]                cnt_miss,
    output reg  [31:0]                cnt_conflict,
    output reg  [31:0]                cnt_open
);
    localparam BB = $clog2(BANKS);
    localparam QB = $clog2(DEPTH);
    localparam PER_GROUP = BANKS / GROUPS;
    localparam EW = ROW_BITS + COLUMN_BITS + TAG_BITS;   // bits of a request without bank and direction
    localparam LATENCY = CL + BURST;
    localparam [2:0] ACT = 3'd0, PRE = 3'd1, PREA = 3'd2, RD = 3'd3, WR = 3'd4, REF = 3'd5;

    // Cycles to keep between two commands. A counter is loaded with one less and allows the next command at 0.
    localparam integer BURST_S = T_CCD_S > BURST ? T_CCD_S : BURST;
    localparam integer BURST_L = T_CCD_L > BURST ? T_CCD_L : BURST;
    localparam integer READ_WRITE = CL + BURST + 2 > CWL ? CL + BURST + 2 - CWL : 0;
    localparam integer WRITE_READ_S = CWL + BURST + T_WTR_S;
    localparam integer WRITE_READ_L = CWL + BURST + T_WTR_L;
    localparam integer WRITE_PRE = CWL + BURST + T_WR;
    localparam RCD_W = $clog2(T_RCD + 2);
    localparam PRE_W = $clog2(T_RAS + T_RTP + WRITE_PRE + 2);
    localparam ACT_W = $clog2(T_RC + T_RP + 2);
    localparam RFC_W = $clog2(T_RFC + 2);
    localparam BUS_W = $clog2(BURST_S + BURST_L + READ_WRITE + WRITE_READ_S + WRITE_READ_L + 2);
    localparam RRD_W = $clog2(T_RRD_S + T_RRD_L + 2);
    localparam FAW_W = $clog2(T_FAW + 2);
    localparam REFI_W = $clog2(T_REFI + 2);
    localparam [31:0] RCD_LOAD = T_RCD > 0 ? T_RCD - 1 : 0;
    localparam [31:0] RAS_LOAD = T_RAS > 0 ? T_RAS - 1 : 0;
    localparam [31:0] RC_LOAD = T_RC > 0 ? T_RC - 1 : 0;
    localparam [31:0] RP_LOAD = T_RP > 0 ? T_RP - 1 : 0;
    localparam [31:0] RTP_LOAD = T_RTP > 0 ? T_RTP - 1 : 0;
    localparam [31:0] WRITE_PRE_LOAD = WRITE_PRE > 0 ? WRITE_PRE - 1 : 0;
    localparam [31:0] RFC_LOAD = T_RFC - 1;
    localparam [31:0] BURST_S_LOAD = BURST_S - 1;
    localparam [31:0] BURST_L_LOAD = BURST_L - 1;
    localparam [31:0] READ_WRITE_LOAD = READ_WRITE > 0 ? READ_WRITE - 1 : 0;
    localparam [31:0] WRITE_READ_S_LOAD = WRITE_READ_S - 1;
    localparam [31:0] WRITE_READ_L_LOAD = WRITE_READ_L - 1;
    localparam [31:0] RRD_S_LOAD = T_RRD_S > 0 ? T_RRD_S - 1 : 0;
    localparam [31:0] RRD_L_LOAD = T_RRD_L > 0 ? T_RRD_L - 1 : 0;
    localparam [31:0] FAW_LOAD = T_FAW > 0 ? T_FAW - 1 : 0;
    localparam [31:0] REFI_LAST = T_REFI > 0 ? T_REFI - 1 : 0;

    // What the bank machines say of themselves, one bit or one request per bank.
    wire [BANKS-1:0]    has_room, is_open, is_activating, was_seen, writes;
    wire [BANKS-1:0]    wants_data, wants_row, may_read, may_write, may_precharge, may_activate;
    wire [BANKS*EW-1:0] heads;

    // The rank: refreshes, ACT to ACT, four ACTs, and the data bus.
    reg [REFI_W-1:0] refresh_timer;
    reg [RFC_W-1:0]  refresh_wait;
    reg [RRD_W-1:0]  rank_act_wait;
    reg [BUS_W-1:0]  rank_read_wait, rank_write_wait;
    reg [FAW_W-1:0]  faw_wait [0:3];
    reg [1:0]        faw_at;
    integer          k;

    // The command of this cycle.
    reg  [BB-1:0]       column_turn, row_turn;
    reg  [15:0]         pending;
    wire [BB-1:0]       column_bank = first_from(wants_data, column_turn);
    wire [BB-1:0]       row_bank    = first_from(wants_row, row_turn);
    wire                is_write    = writes[column_bank];
    wire                column_now  = |wants_data && data_ready
                                    && (is_write ? may_write[column_bank] : may_read[column_bank]);
    wire                maintain    = !column_now && pending != 16'd0;
    wire                prea_now    = maintain && |is_open && !(|is_activating) && &may_precharge;
    wire                ref_now     = maintain && !(|is_open) && refresh_wait == {RFC_W{1'b0}} && &may_activate;
    wire                row_now     = !column_now && pending == 16'd0 && |wants_row;
    wire                rd_now      = column_now && !is_write;
    wire                wr_now      = column_now && is_write;
    wire                pre_now     = row_now && is_open[row_bank];
    wire                act_now     = row_now && !is_open[row_bank];
    wire [EW-1:0]       head        = head_of(heads, cmd_bank);

    assign req_ready  = has_room[req_bank];
    assign cmd_valid  = column_now || row_now || prea_now || ref_now;
    assign cmd        = rd_now ? RD : wr_now ? WR : prea_now ? PREA : ref_now ? REF : pre_now ? PRE : ACT;
    assign cmd_bank   = column_now ? column_bank : row_now ? row_bank : {BB{1'b0}};
    assign cmd_row    = column_now || act_now ? head[EW-1 -: ROW_BITS] : {ROW_BITS{1'b0}};
    assign cmd_column = column_now ? head[TAG_BITS +: COLUMN_BITS] : {COLUMN_BITS{1'b0}};
    assign cmd_tag    = column_now ? head[0 +: TAG_BITS] : {TAG_BITS{1'b0}};

    function [BB-1:0] first_from;   // the first bank of a set, counted from `turn`
        input [BANKS-1:0] set;
        input [BB-1:0]    turn;
        reg   [BANKS-1:0] behind;
        integer           i;
        begin
            behind = set & ({BANKS{1'b1}} << turn);
            if (behind == {BANKS{1'b0}}) behind = set;
            first_from = {BB{1'b0}};
            for (i = BANKS - 1; i >= 0; i = i - 1) if (behind[i]) first_from = i[BB-1:0];
        end
    endfunction

    function [EW-1:0] head_of;
        input [BANKS*EW-1:0] all;
        input [BB-1:0]       bank;
        integer              i;
        begin
            head_of = {EW{1'b0}};
            for (i = 0; i < BANKS; i = i + 1) if (bank == i[BB-1:0]) head_of = all[i*EW +: EW];
        end
    endfunction

    wire refresh_due = T_REFI != 0 && refresh_timer == REFI_LAST[REFI_W-1:0];
    wire rank_act_ok = rank_act_wait == {RRD_W{1'b0}} && faw_wait[faw_at] == {FAW_W{1'b0}}
                     && refresh_wait == {RFC_W{1'b0}};

    function [BUS_W-1:0] bus_later;   // a counter in the next cycle that also waits for `load`
        input [BUS_W-1:0] wait_now;
        input [BUS_W-1:0] load;
        bus_later = wait_now > load ? wait_now - 1'b1 : load;
    endfunction

    always @(posedge clk) begin
        if (rst) begin
            refresh_timer <= {REFI_W{1'b0}};
            refresh_wait <= {RFC_W{1'b0}};
            rank_act_wait <= {RRD_W{1'b0}};
            rank_read_wait <= {BUS_W{1'b0}};
            rank_write_wait <= {BUS_W{1'b0}};
            for (k = 0; k < 4; k = k + 1) faw_wait[k] <= {FAW_W{1'b0}};
            faw_at <= 2'd0;
            pending <= 16'd0;
            column_turn <= {BB{1'b0}};
            row_turn <= {BB{1'b0}};
        end else begin
            refresh_timer <= refresh_due ? {REFI_W{1'b0}} : refresh_timer + 1'b1;
            if (refresh_due && !ref_now) pending <= pending + 16'd1;
            if (!refresh_due && ref_now) pending <= pending - 16'd1;
            if (refresh_wait != {RFC_W{1'b0}}) refresh_wait <= refresh_wait - 1'b1;
            if (ref_now) refresh_wait <= RFC_LOAD[RFC_W-1:0];
            if (rank_act_wait != {RRD_W{1'b0}}) rank_act_wait <= rank_act_wait - 1'b1;
            for (k = 0; k < 4; k = k + 1) if (faw_wait[k] != {FAW_W{1'b0}}) faw_wait[k] <= faw_wait[k] - 1'b1;
            if (act_now) begin
                rank_act_wait <= RRD_S_LOAD[RRD_W-1:0];
                faw_wait[faw_at] <= FAW_LOAD[FAW_W-1:0];
                faw_at <= faw_at + 2'd1;
            end
            rank_read_wait <= bus_later(rank_read_wait, rd_now ? BURST_S_LOAD[BUS_W-1:0]
                : wr_now ? WRITE_READ_S_LOAD[BUS_W-1:0] : {BUS_W{1'b0}});
            rank_write_wait <= bus_later(rank_write_wait, wr_now ? BURST_S_LOAD[BUS_W-1:0]
                : rd_now ? READ_WRITE_LOAD[BUS_W-1:0] : {BUS_W{1'b0}});
            if (column_now) column_turn <= column_bank + 1'b1;
            if (row_now) row_turn <= row_bank + 1'b1;
        end
    end

    // A group keeps its banks apart a little longer.
    wire [GROUPS-1:0] group_act_ok, group_read_ok, group_write_ok;
    genvar g, b;
    generate
        for (g = 0; g < GROUPS; g = g + 1) begin : group
            reg [RRD_W-1:0] act_wait;
            reg [BUS_W-1:0] read_wait, write_wait;
            wire            mine = cmd_bank >> $clog2(PER_GROUP) == g;
            assign group_act_ok[g] = act_wait == {RRD_W{1'b0}};
            assign group_read_ok[g] = read_wait == {BUS_W{1'b0}};
            assign group_write_ok[g] = write_wait == {BUS_W{1'b0}};
            always @(posedge clk) begin
                if (rst) begin
                    act_wait <= {RRD_W{1'b0}};
                    read_wait <= {BUS_W{1'b0}};
                    write_wait <= {BUS_W{1'b0}};
                end else begin
                    if (act_now && mine) act_wait <= RRD_L_LOAD[RRD_W-1:0];
                    else if (act_wait != {RRD_W{1'b0}}) act_wait <= act_wait - 1'b1;
                    read_wait <= bus_later(read_wait, rd_now && mine ? BURST_L_LOAD[BUS_W-1:0]
                        : wr_now && mine ? WRITE_READ_L_LOAD[BUS_W-1:0] : {BUS_W{1'b0}});
                    write_wait <= bus_later(write_wait, wr_now && mine ? BURST_L_LOAD[BUS_W-1:0] : {BUS_W{1'b0}});
                end
            end
        end

        for (b = 0; b < BANKS; b = b + 1) begin : bank
            reg  [EW:0]         queue [0:DEPTH-1];
            reg  [QB:0]         count;
            reg  [QB-1:0]       first;
            reg                 opened, activating, seen;
            reg  [ROW_BITS-1:0] row;
            reg  [RCD_W-1:0]    column_wait;
            reg  [PRE_W-1:0]    precharge_wait;
            reg  [ACT_W-1:0]    activate_wait;
            wire [EW:0]         own = queue[first];
            wire [QB-1:0]       last = first + count[QB-1:0];
            wire                waits = count != {(QB+1){1'b0}};
            wire                hits = opened && row == own[EW-1 -: ROW_BITS];
            wire                mine = cmd_bank == b;
            wire                push = req_valid && has_room[b] && req_bank == b;
            wire                pop = column_now && mine;
            wire [PRE_W-1:0]    close_load = rd_now ? RTP_LOAD[PRE_W-1:0] : WRITE_PRE_LOAD[PRE_W-1:0];

            assign heads[b*EW +: EW] = own[EW-1:0];
            assign writes[b] = own[EW];
            assign has_room[b] = !count[QB];
            assign is_open[b] = opened;
            assign is_activating[b] = activating;
            assign was_seen[b] = seen;
            assign may_read[b] = rank_read_wait == {BUS_W{1'b0}} && group_read_ok[b/PER_GROUP];
            assign may_write[b] = rank_write_wait == {BUS_W{1'b0}} && group_write_ok[b/PER_GROUP];
            assign may_precharge[b] = precharge_wait == {PRE_W{1'b0}};
            assign may_activate[b] = activate_wait == {ACT_W{1'b0}};
            assign wants_data[b] = waits && hits && column_wait == {RCD_W{1'b0}} && (activating || pending == 16'd0);
            assign wants_row[b] = waits && (opened ? !hits && may_precharge[b]
                : may_activate[b] && rank_act_ok && group_act_ok[b/PER_GROUP]);

            always @(posedge clk) begin
                if (push) queue[last] <= {req_write, req_row, req_column, req_tag};
                if (rst) begin
                    count <= {(QB+1){1'b0}};
                    first <= {QB{1'b0}};
                    opened <= 1'b0;
                    activating <= 1'b0;
                    seen <= 1'b0;
                    column_wait <= {RCD_W{1'b0}};
                    precharge_wait <= {PRE_W{1'b0}};
                    activate_wait <= {ACT_W{1'b0}};
                end else begin
                    if (push && !pop) count <= count + 1'b1;
                    if (pop && !push) count <= count - 1'b1;
                    if (column_wait != {RCD_W{1'b0}}) column_wait <= column_wait - 1'b1;
                    if (precharge_wait != {PRE_W{1'b0}}) precharge_wait <= precharge_wait - 1'b1;
                    if (activate_wait != {ACT_W{1'b0}}) activate_wait <= activate_wait - 1'b1;
                    if (pop) begin
                        first <= first + 1'b1;
                        activating <= 1'b0;
                        seen <= 1'b0;
                        if (precharge_wait <= close_load) precharge_wait <= close_load;
                    end
                    if (act_now && mine) begin
                        opened <= 1'b1;
                        activating <= 1'b1;
                        seen <= 1'b1;
                        row <= own[EW-1 -: ROW_BITS];
                        column_wait <= RCD_LOAD[RCD_W-1:0];
                        precharge_wait <= RAS_LOAD[PRE_W-1:0];
                        activate_wait <= RC_LOAD[ACT_W-1:0];
                    end
                    if (pre_now && mine) seen <= 1'b1;
                    if (prea_now || (pre_now && mine)) begin
                        opened <= 1'b0;
                        if (activate_wait <= RP_LOAD[ACT_W-1:0]) activate_wait <= RP_LOAD[ACT_W-1:0];
                    end
                end
            end
        end
    endgenerate

    // Reads on their way: their data end LATENCY cycles after the command.
    reg [LATENCY-1:0]          reading;
    reg [LATENCY*TAG_BITS-1:0] tags;
    assign done_valid = reading[LATENCY-1];
    assign done_tag = tags[LATENCY*TAG_BITS-1 -: TAG_BITS];

    always @(posedge clk) begin
        if (rst) begin
            reading <= {LATENCY{1'b0}};
            tags <= {(LATENCY*TAG_BITS){1'b0}};
            now <= 32'd0;
            cnt_act <= 32'd0;
            cnt_pre <= 32'd0;
            cnt_prea <= 32'd0;
            cnt_rd <= 32'd0;
            cnt_wr <= 32'd0;
            cnt_ref <= 32'd0;
            cnt_hit <= 32'd0;
            cnt_miss <= 32'd0;
            cnt_conflict <= 32'd0;
            cnt_open <= 32'd0;
        end else begin
            reading <= {reading[LATENCY-2:0], rd_now};
            tags <= {tags[(LATENCY-1)*TAG_BITS-1:0], rd_now ? cmd_tag : {TAG_BITS{1'b0}}};
            now <= now + 32'd1;
            if (act_now) cnt_act <= cnt_act + 32'd1;
            if (pre_now) cnt_pre <= cnt_pre + 32'd1;
            if (prea_now) cnt_prea <= cnt_prea + 32'd1;
            if (rd_now) cnt_rd <= cnt_rd + 32'd1;
            if (wr_now) cnt_wr <= cnt_wr + 32'd1;
            if (ref_now) cnt_ref <= cnt_ref + 32'd1;
            if (column_now && !was_seen[column_bank]) cnt_hit <= cnt_hit + 32'd1;
            if (act_now && !was_seen[row_bank]) cnt_miss <= cnt_miss + 32'd1;
            if (pre_now && !was_seen[row_bank]) cnt_conflict <= cnt_conflict + 32'd1;
            if (|is_open) cnt_open <= cnt_open + 32'd1;
        end
    end
endmodule
