// Control of a group of PROMISE banks: one instruction is a tile, `len` columns of `banks` banks, an interval apart.
//
// The array is told to start a column (an_start) and answers DONE cycles later (an_done, an_data: the sum over all banks
// of the group, converted). A column occupies stage s for Cs cycles; the slowest stage is the interval. Its result is on
// the result port COL = interval + RED cycles after its start, so that a tile takes interval * len + RED cycles. A stage
// begins when the one before it ends, or earlier where the column would otherwise not be through in COL cycles.
// The analog array cannot be held up: a column starts only if there is a place for its result (DEPTH of them).
module promise_ctl #(
    parameter integer BANKS = 256,
    parameter integer COLUMNS = 128,
    parameter integer W = 40,
    parameter integer C1 = 14,
    parameter integer C2 = 0,
    parameter integer C3 = 0,
    parameter integer C4 = 0,
    parameter integer RED = 10,
    parameter integer DEPTH = 4
) (
    input  wire                             clk,
    input  wire                             rst,

    input  wire                             instr_valid,
    output wire                             instr_ready,
    input  wire        [1:0]                instr_op,
    input  wire        [2:0]                instr_swing,
    input  wire        [$clog2(COLUMNS)-1:0] instr_addr,
    input  wire        [$clog2(COLUMNS+1)-1:0] instr_len,
    input  wire        [$clog2(BANKS+1)-1:0] instr_banks,

    output wire                             an_start,
    output wire        [2:0]                an_swing,
    output wire        [$clog2(COLUMNS)-1:0] an_addr,
    output wire        [$clog2(BANKS+1)-1:0] an_banks,
    input  wire                             an_done,
    input  wire signed [W-1:0]              an_data,

    output wire                             res_valid,
    input  wire                             res_ready,
    output wire signed [W-1:0]              res_data,
    output wire                             res_last,

    output reg         [3:0]                stage,
    output reg                              fault,

    output reg         [31:0]               cnt_dot,
    output reg         [31:0]               cnt_bank_cycles,
    output reg         [31:0]               cnt_cycles,
    output reg         [31:0]               cnt_stall
);
    localparam C12 = C1 > C2 ? C1 : C2;
    localparam C34 = C3 > C4 ? C3 : C4;
    localparam INTERVAL = C12 > C34 ? C12 : C34;
    localparam COL = INTERVAL + RED;
    // Latest cycle in which a stage may begin, then the cycle in which it does.
    localparam L4 = COL - C4;
    localparam L3 = COL - C3 < L4 ? COL - C3 : L4;
    localparam L2 = COL - C2 < L3 ? COL - C2 : L3;
    localparam O2 = C1 < L2 ? C1 : L2;
    localparam O3 = O2 + C2 < L3 ? O2 + C2 : L3;
    localparam O4 = O3 + C3 < L4 ? O3 + C3 : L4;
    localparam DONE = O4 < COL - 2 ? O4 : COL - 2;

    localparam CA = $clog2(COLUMNS);
    localparam CL = $clog2(COLUMNS+1);
    localparam BW = $clog2(BANKS+1);
    localparam DA = $clog2(DEPTH);
    localparam DW = $clog2(DEPTH+1);
    localparam [1:0] RELU = 2'd1;
    localparam [1:0] ACCUMULATE = 2'd2;
    localparam [1:0] MAXIMUM = 2'd3;

    // The tile at work: columns to start, results to hand over.
    reg                  busy, first;
    reg [1:0]            op;
    reg [2:0]            swing;
    reg [CA-1:0]         addr;
    reg [BW-1:0]         banks;
    reg [CL-1:0]         left, due;

    // Columns on their way: bit i is set if one was started i cycles ago.
    reg  [COL-2:0]       past;
    wire [COL-1:0]       flight = {past, an_start};

    // Results: places taken, results that may be seen, where the next one goes and comes from.
    reg signed [W-1:0]   result [0:DEPTH-1];
    reg signed [W-1:0]   running;
    reg [DW-1:0]         taken, visible;
    reg [DA-1:0]         head, tail;

    reg                  recent;                         // the last column has not had its interval yet
    wire                 pending   = busy && left != {CL{1'b0}} && !recent;
    wire                 handed    = res_valid && res_ready;
    wire                 finishing = handed && res_last;
    wire                 accept    = instr_valid && instr_ready;
    wire                 filled    = flight[DONE];
    wire                 shown     = flight[COL-2];
    reg signed [W-1:0]   value;
    integer              i, k;

    assign instr_ready = !busy || finishing;
    assign an_start    = pending && !taken[DW-1];        // DEPTH is a power of two
    assign an_swing    = swing;
    assign an_addr     = addr;
    assign an_banks    = banks;
    assign res_valid   = visible != {DW{1'b0}};
    assign res_data    = res_valid ? result[head] : {W{1'b0}};
    assign res_last    = res_valid && due == {{(CL-1){1'b0}}, 1'b1};

    always @* begin
        recent = 1'b0;
        for (k = 1; k < INTERVAL; k = k + 1) recent = recent | past[k-1];
    end

    // A stage is occupied while a column is as old as it takes to be in it.
    always @* begin
        stage = 4'd0;
        for (i = 0; i < COL; i = i + 1) begin
            if (i < C1) stage[0] = stage[0] | flight[i];
            if (i >= O2 && i < O2 + C2) stage[1] = stage[1] | flight[i];
            if (i >= O3 && i < O3 + C3) stage[2] = stage[2] | flight[i];
            if (i >= O4 && i < O4 + C4) stage[3] = stage[3] | flight[i];
        end
    end

    // The digital end of a column.
    always @* begin
        value = an_data;
        case (op)
            RELU: if (an_data[W-1]) value = {W{1'b0}};
            ACCUMULATE: if (!first) value = running + an_data;
            MAXIMUM: if (!first && running > an_data) value = running;
            default: value = an_data;
        endcase
    end

    always @(posedge clk) begin
        if (filled) result[tail] <= value;
    end

    always @(posedge clk) begin
        if (rst) begin
            busy <= 1'b0;
            first <= 1'b0;
            op <= 2'd0;
            swing <= 3'd0;
            addr <= {CA{1'b0}};
            banks <= {BW{1'b0}};
            left <= {CL{1'b0}};
            due <= {CL{1'b0}};
            past <= {(COL-1){1'b0}};
            running <= {W{1'b0}};
            taken <= {DW{1'b0}};
            visible <= {DW{1'b0}};
            head <= {DA{1'b0}};
            tail <= {DA{1'b0}};
            fault <= 1'b0;
            cnt_dot <= 32'd0;
            cnt_bank_cycles <= 32'd0;
            cnt_cycles <= 32'd0;
            cnt_stall <= 32'd0;
        end else begin
            past <= flight[COL-2:0];
            taken <= taken + {{(DW-1){1'b0}}, an_start} - {{(DW-1){1'b0}}, handed};
            visible <= visible + {{(DW-1){1'b0}}, shown} - {{(DW-1){1'b0}}, handed};
            if (an_start) begin
                left <= left - 1'b1;
                addr <= addr + 1'b1;
                cnt_dot <= cnt_dot + {{(32-BW){1'b0}}, banks};
            end
            if (filled) begin
                running <= value;
                first <= 1'b0;
                tail <= tail + 1'b1;
            end
            if (filled != an_done) fault <= 1'b1;
            if (handed) begin
                head <= head + 1'b1;
                due <= due - 1'b1;
            end
            if (busy) begin
                cnt_cycles <= cnt_cycles + 32'd1;
                cnt_bank_cycles <= cnt_bank_cycles + {{(32-BW){1'b0}}, banks};
            end
            if (pending && !an_start) cnt_stall <= cnt_stall + 32'd1;
            if (finishing) busy <= 1'b0;
            if (accept) begin
                busy <= 1'b1;
                first <= 1'b1;
                op <= instr_op;
                swing <= instr_swing;
                addr <= instr_addr;
                banks <= instr_banks;
                left <= instr_len;
                due <= instr_len;
            end
        end
    end
endmodule
