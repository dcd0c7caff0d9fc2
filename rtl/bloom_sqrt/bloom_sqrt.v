// The square root of fp32 numbers in six stages behind Bloom filters: round to nearest even, subnormals flushed to signed
// zero, one quiet NaN, also of negative numbers; the root of -0 is -0. Tokens, gating, output registers and timing are
// those of bloom_fu: the answer of the filters to the operand of cycle t arrives in t+2, a miss clocks all six stages, a
// hit none; both leave in t+8.
module bloom_sqrt #(
    parameter integer NBF = 30
) (
    input  wire                    clk,
    input  wire                    rst,

    input  wire                    cfg_we,
    input  wire [$clog2(NBF)-1:0]  cfg_addr,
    input  wire [31:0]             cfg_data,

    input  wire                    in_valid,
    input  wire [31:0]             in_a,
    input  wire                    in_hit,
    input  wire [$clog2(NBF)-1:0]  in_bf,

    output wire                    out_valid,
    output wire                    out_hit,
    output wire [$clog2(NBF)-1:0]  out_bf,
    output reg  [31:0]             out_result,

    output reg  [31:0]             cnt_stage,
    output reg  [31:0]             cnt_read
);
    localparam BF = $clog2(NBF);
    localparam [31:0] QUIET = 32'h7FC00000;
    localparam [30:0] INFINITE = 31'h7F800000;

    reg [31:0]     outputs [0:NBF-1];

    // Operands wait for the filters.
    reg            wait1, wait2;
    reg [31:0]     a_wait1, a_wait2;

    // Tokens of the six stages, the first stage lowest.
    reg [5:0]      valid, hits;
    reg [6*BF-1:0] filter;
    wire [5:0]     clocked = {valid[4:0] & ~hits[4:0], wait2 && !in_hit};

    // Stage 1: operand. Stage 2: the mantissa as 25 digits of two bits, doubled where the exponent is odd.
    reg [31:0]     a1;
    reg            sign2, nan2, inf2, zero2;
    reg [7:0]      exp2;
    reg [49:0]     digits2;
    wire           a_zero = a1[30:23] == 8'd0;
    wire           a_inf = a1[30:0] == INFINITE;
    wire           a_nan = a1[30:23] == 8'hFF && !a_inf;
    wire [8:0]     twice = {1'b0, a1[30:23]} + 9'd127;

    // Stages 3 and 4: a bit of the root for every digit, 12 and 13 of them, and what is left.
    reg            sign3, nan3, inf3, zero3, sign4, nan4, inf4, zero4;
    reg [7:0]      exp3, exp4;
    reg [25:0]     digits3;
    reg [12:0]     left3;
    reg [11:0]     root3;
    reg [23:0]     root4;
    reg [14:0]     upper_next;
    reg [12:0]     upper_left;
    reg [11:0]     upper;
    reg [27:0]     lower_next;
    reg [25:0]     lower_left;
    reg [24:0]     lower;
    integer        i, j;

    // Stage 5: rounded and packed. No root lies just between two numbers, and none rounds up to a power of two.
    reg [31:0]     packed5;
    wire [22:0]    fraction = root4[23:1] + {22'd0, root4[0]};

    always @* begin
        upper = 12'd0;
        upper_left = 13'd0;
        upper_next = 15'd0;
        for (i = 0; i < 12; i = i + 1) begin
            upper_next = {upper_left, digits2[49 - 2*i -: 2]};
            if (upper_next >= {1'b0, upper, 2'b01}) begin
                upper_next = upper_next - {1'b0, upper, 2'b01};
                upper = {upper[10:0], 1'b1};
            end else upper = {upper[10:0], 1'b0};
            upper_left = upper_next[12:0];
        end
    end

    always @* begin
        lower = {13'd0, root3};
        lower_left = {13'd0, left3};
        lower_next = 28'd0;
        for (j = 0; j < 13; j = j + 1) begin
            lower_next = {lower_left, digits3[25 - 2*j -: 2]};
            if (lower_next >= {1'b0, lower, 2'b01}) begin
                lower_next = lower_next - {1'b0, lower, 2'b01};
                lower = {lower[23:0], 1'b1};
            end else lower = {lower[23:0], 1'b0};
            lower_left = lower_next[25:0];
        end
    end

    assign out_valid = valid[5];
    assign out_hit = valid[5] && hits[5];
    assign out_bf = valid[5] && hits[5] ? filter[5*BF +: BF] : {BF{1'b0}};

    function [31:0] ones;
        input [5:0] bits;
        ones = {31'd0, bits[0]} + {31'd0, bits[1]} + {31'd0, bits[2]} + {31'd0, bits[3]} + {31'd0, bits[4]}
            + {31'd0, bits[5]};
    endfunction

    always @(posedge clk) begin
        if (cfg_we) outputs[cfg_addr] <= cfg_data;
    end

    always @(posedge clk) begin
        if (in_valid) a_wait1 <= in_a;
        if (wait1) a_wait2 <= a_wait1;
        if (clocked[0]) a1 <= a_wait2;
        if (clocked[1]) begin
            sign2 <= a1[31];
            nan2 <= a_nan || (a1[31] && !a_zero);
            inf2 <= a_inf;
            zero2 <= a_zero;
            exp2 <= twice[8:1];
            digits2 <= twice[0] ? {1'b1, a1[22:0], 26'd0} : {2'b01, a1[22:0], 25'd0};
        end
        if (clocked[2]) begin
            {sign3, nan3, inf3, zero3} <= {sign2, nan2, inf2, zero2};
            exp3 <= exp2;
            root3 <= upper;
            left3 <= upper_left;
            digits3 <= digits2[25:0];
        end
        if (clocked[3]) begin
            {sign4, nan4, inf4, zero4} <= {sign3, nan3, inf3, zero3};
            exp4 <= exp3;
            root4 <= lower[23:0];
        end
        if (clocked[4]) begin
            if (nan4) packed5 <= QUIET;
            else if (inf4) packed5 <= {1'b0, INFINITE};
            else if (zero4) packed5 <= {sign4, 31'd0};
            else packed5 <= {1'b0, exp4, fraction};
        end
        if (rst) out_result <= 32'd0;
        else if (valid[4]) out_result <= hits[4] ? outputs[filter[4*BF +: BF]] : packed5;
    end

    always @(posedge clk) begin
        filter <= {filter[5*BF-1:0], in_bf};
        if (rst) begin
            wait1 <= 1'b0;
            wait2 <= 1'b0;
            valid <= 6'd0;
            hits <= 6'd0;
            cnt_stage <= 32'd0;
            cnt_read <= 32'd0;
        end else begin
            wait1 <= in_valid;
            wait2 <= wait1;
            valid <= {valid[4:0], wait2};
            hits <= {hits[4:0], in_hit};
            cnt_stage <= cnt_stage + ones(clocked);
            cnt_read <= cnt_read + {31'd0, valid[4] && hits[4]};
        end
    end
endmodule
